//! What the classic builder cannot do is said before anything is built.

use smartbuild::{
    dockerfile::Feature,
    engine::{BuildError, SecretSource, SshAgent},
};
use smartbuild_test_rig::Work;

use super::{Heard, engine, request};

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn what_needs_buildkit_is_refused_before_anything_is_built() {
    let (work, engine) = (Work::new(), engine().await.without_buildkit());
    work.write(".dockerignore", "nothing\n");
    let secret = SecretSource::File("/etc/hostname".into());
    let listener = std::os::unix::net::UnixListener::bind(work.join("../agent")).unwrap();
    let agent = SshAgent::open(&[work.join("../agent")]).await.unwrap();
    for (change, said) in [
        (0, "this engine cannot build with secrets: it has no BuildKit"),
        (1, "this engine cannot build with SSH agents: it has no BuildKit"),
        (2, "this engine cannot build RUN --mount: it has no BuildKit"),
        (3, "this engine cannot build an image into which `.dockerignore` is copied"),
    ] {
        let mut request = request(&work, "FROM scratch\nLABEL a=b\n");
        match change {
            0 => drop(request.secrets.insert("id".into(), secret.clone())),
            1 => drop(request.ssh.insert("default".into(), agent.clone())),
            2 => _ = request.needs_buildkit.insert(Feature::RunMount),
            _ => {}
        }
        let heard = Heard::default();
        let error = engine.build(&request, &heard).await.unwrap_err();
        assert!(matches!(error, BuildError::Unsupported { .. }), "{error:?}");
        assert!(error.to_string().starts_with(said), "{error}");
        assert!(heard.0.lock().unwrap().is_empty());
    }
    drop(listener);
}
