//! What only BuildKit can do, or does its own way.

use smartbuild::{
    engine::{BuildError, SecretSource},
    layer_cache::LayerCache,
};
use smartbuild_test_rig::{self as rig, Registry, Work, unique};

use super::{Heard, Image, build, engine, request};

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn a_warm_engine_is_sent_what_changed_and_nothing_else() {
    let (work, image, engine) = (Work::new(), Image::new("warm"), engine().await);
    // Content that no build before had.
    let content = || unique("content").repeat(1_200)[..20_000].to_owned();
    for index in 0..50 {
        work.write(format!("file-{index}"), content());
    }
    let dockerfile = "FROM scratch\nCOPY . /\n";
    let sent = async |work: &Work| {
        let mut request = request(work, dockerfile);
        request.tags = vec![image.reference()];
        let heard = Heard::default();
        let id = engine.build(&request, &heard).await.unwrap();
        engine.remove(&image.name).await.unwrap();
        assert_eq!(engine.inspect(&id.to_string()).await.unwrap(), None);
        (heard.sent(), heard.cached("COPY"))
    };
    assert!(sent(&work).await.0 > 1_000_000);
    let (again, cached) = sent(&work).await;
    assert!(again < 20_000 && cached, "{again}");

    // The same length and the same time: only the content tells.
    let path = work.join("file-7");
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    work.write("file-7", content());
    std::fs::File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    let (changed, cached) = sent(&work).await;
    assert!((20_000..40_000).contains(&changed) && !cached, "{changed}");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn a_change_of_nothing_but_what_a_name_stands_for_is_built() {
    let (work, registry, image) = (Work::new(), Registry::open(), Image::new("metadata"));
    let dockerfile = format!("FROM {}\nCOPY p /p\n", registry.push_base());
    // The times of all stay the same.
    let built = async || {
        let touched = std::process::Command::new("sh")
            .args(["-c", "find p -exec touch -h -d @1234567890 {} +"])
            .current_dir(work.path())
            .status();
        assert!(touched.unwrap().success());
        build(&work, &image, &dockerfile).await.unwrap();
        image.run(&["sh", "-c", "cd /p; stat -c '%A %n' *; readlink link; cat file"])
    };
    let shown = |directory: &str, tool: &str, target: &str| {
        format!("{directory} d\n-rw-r--r-- file\nlrwxrwxrwx link\n{tool} tool\n{target}\n1\n")
    };
    work.write("p/d/f", unique("content")).write("p/file", "1\n").write("p/tool", "x");
    work.symlink("one", "p/link").chmod("p/d", 0o755).chmod("p/tool", 0o755);
    let first = shown("drwxr-xr-x", "-rwxr-xr-x", "one");
    assert_eq!(built().await, first);
    work.chmod("p/d", 0o1755);
    assert_eq!(built().await, shown("drwxr-xr-t", "-rwxr-xr-x", "one"));
    work.chmod("p/d", 0o755);
    assert_eq!(built().await, first);
    work.chmod("p/tool", 0o4755);
    assert_eq!(built().await, shown("drwxr-xr-x", "-rwsr-xr-x", "one"));
    work.remove("p/link").symlink("two", "p/link");
    assert_eq!(built().await, shown("drwxr-xr-x", "-rwsr-xr-x", "two"));
    // A file becomes a directory of the same name, and a file again.
    work.remove("p/tool").write("p/tool/in", "x").chmod("p/tool", 0o755);
    assert_eq!(built().await, shown("drwxr-xr-x", "drwxr-xr-x", "two"));
    std::fs::remove_dir_all(work.join("p/tool")).unwrap();
    work.write("p/tool", "x").chmod("p/tool", 0o755);
    assert_eq!(built().await, shown("drwxr-xr-x", "-rwxr-xr-x", "two"));
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn times_in_the_image_are_those_of_the_disk() {
    let (work, registry, image) = (Work::new(), Registry::open(), Image::new("times"));
    // BuildKit's cache knows no times: what it has of this content keeps its own.
    work.write("file", unique("content"));
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_234_567_890);
    let file = std::fs::File::options().write(true).open(work.join("file")).unwrap();
    file.set_modified(time).unwrap();
    let dockerfile = format!("FROM {}\nCOPY file /file\n", registry.push_base());
    build(&work, &image, &dockerfile).await.unwrap();
    assert_eq!(image.run(&["stat", "-c", "%Y", "/file"]).trim(), "1234567890");

    let mut request = request(&work, &format!("{dockerfile}RUN stat -c %Y /file # again\n"));
    request.source_date_epoch = Some(1_000_000_000);
    request.no_cache = true;
    let heard = Heard::default();
    let id = engine().await.build(&request, &heard).await.unwrap();
    assert_eq!(heard.log("RUN").trim(), "1000000000");
    engine().await.remove(&id.to_string()).await.unwrap();
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn a_name_that_the_protocol_cannot_carry_is_said_before_anything_is_built() {
    use std::os::unix::ffi::OsStrExt;
    let work = Work::new();
    work.write(std::ffi::OsStr::from_bytes(b"caf\xe9"), "x");
    let request = request(&work, "FROM scratch\nCOPY . /\n");
    let error = engine().await.build(&request, &Heard::default()).await.unwrap_err();
    assert!(matches!(error, BuildError::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains("caf"), "{error}");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn the_served_dockerfile_hides_nothing_and_the_contexts_own_is_copied() {
    let (work, registry, image) = (Work::new(), Registry::open(), Image::new("dockerfile"));
    let base = registry.push_base();
    work.write("Dockerfile", "the one on disk\n")
        .write(".dockerignore", "kept\n")
        .write("kept", "whoever selected it knows why\n");
    build(&work, &image, &format!("FROM {base}\nCOPY . /c\n")).await.unwrap();
    assert_eq!(image.run(&["cat", "/c/Dockerfile"]), "the one on disk\n");
    assert_eq!(image.run(&["ls", "-A", "/c"]), ".dockerignore\nDockerfile\nkept\n");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn secrets_are_given_to_the_steps_that_mount_them() {
    let (work, registry) = (Work::new(), Registry::open());
    work.write("../secret", "from a file\n");
    let dockerfile = format!(
        "# syntax-free\nFROM {}\n\
         RUN --mount=type=secret,id=file cat /run/secrets/file\n\
         RUN --mount=type=secret,id=value,target=/v cat /v\n\
         RUN --mount=type=secret,id=none test ! -e /run/secrets/none\n",
        registry.push_base()
    );
    let mut request = request(&work, &dockerfile);
    request.no_cache = true;
    request.secrets = [
        ("file".to_owned(), SecretSource::File(work.join("../secret"))),
        ("value".to_owned(), SecretSource::Value("a value\n".to_owned().into())),
    ]
    .into();
    let heard = Heard::default();
    let id = engine().await.build(&request, &heard).await.unwrap();
    assert_eq!(heard.log("RUN"), "from a file\na value\n");
    engine().await.remove(&id.to_string()).await.unwrap();

    request.secrets.insert("file".to_owned(), SecretSource::File("/nowhere".into()));
    let error = engine().await.build(&request, &Heard::default()).await.unwrap_err();
    assert!(error.to_string().contains("cannot read the secret `file`: /nowhere"), "{error}");
}

/// Whether the rig's engine is that old, and what it says then has been checked.
async fn too_old(request: &smartbuild::engine::BuildRequest, api: &str, said: &str) -> bool {
    let engine = engine().await;
    let number = |text: &str| text.split('.').map(|n| n.parse().unwrap()).collect::<Vec<u32>>();
    if number(&engine.capabilities().unwrap().api) >= number(api) {
        return false;
    }
    let error = engine.build(request, &Heard::default()).await.unwrap_err();
    assert!(matches!(error, BuildError::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains(said), "{error}");
    true
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn named_contexts_are_served_beside_the_main_one() {
    let (work, other, registry) = (Work::new(), Work::new(), Registry::open());
    work.write("file", "of the main one\n");
    other.write("file", "of the other\n").write("deep/file", "x");
    let dockerfile = format!(
        "FROM {}\nCOPY file /main\nCOPY --from=other . /other\n\
         RUN cat /main /other/file && find /other -type f | sort\n",
        registry.push_base()
    );
    let (first, second) = (Image::new("contexts"), Image::new("contexts"));
    let mut request = request(&work, &dockerfile);
    request.no_cache = true;
    request.contexts.insert("other".to_owned(), super::context(&other));
    request.tags = vec![first.reference(), second.reference()];
    request.labels.insert("l".to_owned(), "m".to_owned());
    if too_old(&request, "1.42", "with named contexts").await {
        return;
    }
    let heard = Heard::default();
    let id = engine().await.build(&request, &heard).await.unwrap();
    let expected = "of the main one\nof the other\n/other/deep/file\n/other/file\n";
    assert_eq!(heard.log("RUN"), expected);
    for image in [&first, &second] {
        let found = engine().await.inspect(&image.name).await.unwrap().unwrap();
        assert_eq!((&found.id, found.labels["l"].as_str()), (&id, "m"));
    }

    request.dockerfile.extend_from_slice(b"RUN echo it fails; exit 9\n");
    let error = engine().await.build(&request, &Heard::default()).await.unwrap_err();
    let BuildError::Step { exit_code: Some(9), log, .. } = error else { panic!("{error:?}") };
    assert_eq!(log, "it fails\n");

    request.dockerfile = b"FROM scratch\nCOPPY a b\n".to_vec();
    let error = engine().await.build(&request, &Heard::default()).await.unwrap_err();
    assert!(matches!(&error, BuildError::Dockerfile { .. }), "{error:?}");

    request.dockerfile = b"FROM scratch\nCOPY --from=other file /\n".to_vec();
    other.write("file", "changed since\n");
    let error = engine().await.build(&request, &Heard::default()).await.unwrap_err();
    assert!(matches!(&error, BuildError::ContextChanged(_)), "{error:?}");
}

#[tokio::test]
#[ignore = "needs an engine: run tests/run.sh"]
async fn caches_go_to_a_registry_and_come_back() {
    let (work, registry, engine) = (Work::new(), Registry::open(), engine().await);
    let base = registry.push_base();
    // Nobody has this step's result.
    let step = unique("step");
    let mut request = request(&work, &format!("FROM {base}\nRUN echo {step}\n"));
    let cache = registry.name(&unique("cache"));
    let to = |text: &str| vec![LayerCache::destination(text).unwrap()];
    request.cache_to = to(&format!("type=registry,ref={cache},mode=max"));
    if engine.version().await.unwrap().containerd_store {
        let id = engine.build(&request, &Heard::default()).await.unwrap();
        engine.remove(&id.to_string()).await.unwrap();
        let cache = cache.split_once('/').unwrap().1;
        assert_eq!(registry.tags(cache), ["latest"]);
    } else {
        let error = engine.build(&request, &Heard::default()).await.unwrap_err();
        assert!(
            error.to_string().contains("only engines with containerd's image store"),
            "{error}"
        );
    }

    let image = Image { name: format!("{}:1", registry.name(&unique("inline"))) };
    request.tags = vec![image.reference()];
    request.cache_to = to("type=inline");
    engine.build(&request, &Heard::default()).await.unwrap();
    engine.push(&image.reference(), None, &Heard::default()).await.unwrap();
    rig::Engine::get().forget(&image.name);
    request.cache_to.clear();
    let sources = [&image.name, "type=registry,ref=localhost:1/none"];
    request.cache_from = sources.map(|text| LayerCache::source(text).unwrap()).into();
    let heard = Heard::default();
    engine.build(&request, &heard).await.unwrap();
    assert!(heard.cached("RUN"));
    heard.step("importing cache manifest from");
}
