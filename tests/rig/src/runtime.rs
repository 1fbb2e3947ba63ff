//! One thread that runs all servers of this test process, whatever runtime a test itself has.

use std::future::{Future, pending};
use std::sync::{OnceLock, mpsc};
use std::thread;

use tokio::runtime::{Builder, Handle};

/// The servers' runtime.
pub(crate) fn handle() -> &'static Handle {
    static HANDLE: OnceLock<Handle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let (send, receive) = mpsc::channel();
        thread::Builder::new()
            .name("rig".to_owned())
            .spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build().unwrap();
                send.send(runtime.handle().clone()).unwrap();
                runtime.block_on(pending::<()>());
            })
            .unwrap();
        receive.recv().unwrap()
    })
}

/// Runs a future there and waits for it; also from inside another runtime.
pub(crate) fn block_on<F>(future: F) -> F::Output
where
    F: Future<Output: Send> + Send + 'static,
{
    let (send, receive) = mpsc::channel();
    handle().spawn(async move { send.send(future.await) });
    receive.recv().expect("the rig's thread has ended")
}
