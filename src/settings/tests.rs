use std::{fs, time::Duration};

use clap::Parser;

use super::*;
use crate::cli::BuildCommand;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    command: BuildCommand,
}

/// The request of a command line in an empty context, with the given variables.
fn request(line: &[&str], variables: &[(&str, &str)]) -> Result<Request, Error> {
    let context = tempfile::tempdir().unwrap();
    fs::write(context.path().join("Dockerfile"), "FROM scratch\n").unwrap();
    let context = context.path().to_str().unwrap().to_owned();
    let line = ["smartbuild"].into_iter().chain(line.iter().copied()).chain([context.as_str()]);
    let environment = variables
        .iter()
        .fold(Environment::empty(), |environment, (name, value)| environment.with(name, *value));
    let command = Line::try_parse_from(line).unwrap().command;
    Request::new(&command.options, command.context, &environment)
}

fn tags(request: &Request) -> Vec<String> {
    request.tags.iter().map(ToString::to_string).collect()
}

const PIPELINE: [(&str, &str); 2] =
    [("IMAGE_URL", "registry.cn-hangzhou.aliyuncs.com/team/toolbox"), ("CI_PIPELINE_IID", "42")];

#[test]
fn a_secret_is_in_a_file_a_variable_or_a_commands_output() {
    let environment = Environment::empty().with("SET", "x");
    let read = |text: &str| {
        let secrets = pairs::secrets(&[text.to_owned()], &environment).unwrap();
        secrets.into_iter().next().unwrap()
    };
    for (text, id, source) in [
        ("id=a,src=b", "a", SecretSource::File("b".into())),
        ("type=file,source=b,id=a", "a", SecretSource::File("b".into())),
        ("id=a,env=b", "a", SecretSource::Variable("b".into())),
        ("id=SET", "SET", SecretSource::Variable("SET".into())),
        ("id=unset", "unset", SecretSource::File("unset".into())),
        ("id=a,cmd=b c=d, e", "a", SecretSource::Command("b c=d, e".into())),
    ] {
        assert_eq!(read(text), SecretSpec { id: id.into(), source }, "{text}");
    }
}

#[test]
fn a_gitlab_pipeline_needs_no_tags() {
    let request = request(&["--push"], &PIPELINE).unwrap();
    assert_eq!(
        tags(&request),
        [
            "registry.cn-hangzhou.aliyuncs.com/team/toolbox:42",
            "registry.cn-hangzhou.aliyuncs.com/team/toolbox:latest"
        ]
    );
}

#[test]
fn tags_that_were_typed_replace_those_of_the_pipeline() {
    let request =
        request(&["--push", "-t", "localhost:5000/a", "-t", "localhost:5000/a:latest"], &PIPELINE)
            .unwrap();
    assert_eq!(tags(&request), ["localhost:5000/a:latest"]);
}

#[test]
fn pushing_without_a_name_says_how_to_give_one() {
    let error = request(&["--push"], &[("IMAGE_URL", "h.example/a/b")]).unwrap_err().to_string();
    assert!(error.contains("-t HOST/") && error.contains("CI_PIPELINE_IID"), "{error}");
}

#[test]
fn attestations_are_not_made_and_that_there_be_none_may_be_asked_for() {
    let tag = ["-t", "h.example/a"];
    for off in ["--provenance=false", "--sbom=false", "--attest=type=sbom,disabled=true"] {
        request(&[&tag[..], &[off]].concat(), &[]).unwrap();
    }
    for on in ["--provenance", "--provenance=mode=max", "--sbom=true", "--attest=type=sbom"] {
        let error = request(&[&tag[..], &[on]].concat(), &[]).unwrap_err().to_string();
        assert!(error.contains("without attestations"), "{error}");
    }
}

#[test]
fn a_broken_value_is_named_with_its_option() {
    for (line, words) in [
        (&["-t", "h.example/UPPER"][..], "--tag h.example/UPPER"),
        (&["--build-arg", "=x"], "--build-arg =x"),
        (&["--platform", "linux/"], "--platform linux/"),
        (&["--refresh", "sometimes"], "--refresh sometimes: write daily"),
        (&["--secret", "src=x"], "no id=ID"),
        (&["--secret", "id=a,src=x,env=y"], "one of src, env and cmd"),
        (&["--ssh", "key="], "ID=SOCKET or ID=KEY[,KEY]"),
        (&["--shm-size", "big"], "--shm-size big"),
        (&["--ulimit", "nofile=20:10"], "--ulimit nofile=20:10"),
        (&["--build-context", "x"], "NAME=DIRECTORY"),
        (&["--cache-to", "type=gha"], "caches of the type `gha` are not supported"),
        (&["--cache-from", "type=local,dest=x"], "write it as type=local,src=DIRECTORY"),
        (&["--cache-from", "type=inline"], "use registry"),
        (&["--allow", "fs.read=/"], "write network.host or security.insecure"),
        (&["--cache-to", "ref=a/b"], "its type is missing"),
        (&["--cache-to", "type=registry,ref"], "`ref` is no NAME=VALUE"),
    ] {
        let error = request(line, &[]).unwrap_err().to_string();
        assert!(error.contains(words), "{line:?}: {error}");
    }
}

#[test]
fn an_argument_without_a_value_takes_the_variable_or_is_left_out() {
    let request = request(
        &["--build-arg", "A", "--build-arg", "B", "--build-arg", "C=3=3", "--build-arg", "D="],
        &[("A", "1")],
    )
    .unwrap();
    let expected = [("A", "1"), ("C", "3=3"), ("D", "")];
    assert_eq!(request.build_args, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn a_named_context_may_be_an_image() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let line = |values: &[String]| {
        let line: Vec<_> = values.iter().flat_map(|value| ["--build-context", value]).collect();
        request(&line, &[])
    };
    let image = "Base:latest=docker-image://r.example/a:1".to_owned();
    let found = line(std::slice::from_ref(&image)).unwrap();
    assert_eq!(found.context_images["base"], "r.example/a:1");
    // What is typed last counts.
    let found = line(&[image.clone(), format!("base={path}")]).unwrap();
    assert!(found.context_images.is_empty() && found.contexts.contains_key("base"));
    let found = line(&[format!("base={path}"), image]).unwrap();
    assert!(found.contexts.is_empty() && found.context_images.contains_key("base"));
    for (value, words) in [
        ("docker-image://", "reference"),
        ("docker-image://scratch", "an empty directory"),
        ("docker-image://A B", "reference"),
        ("oci-layout://x", "NAME=docker-image://IMAGE"),
    ] {
        let error = line(&[format!("base={value}")]).unwrap_err().to_string();
        assert!(error.contains(words), "{value}: {error}");
    }
}

#[test]
fn a_named_context_has_the_name_by_which_engines_look_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let name = |name: &str| {
        let line = ["--build-context", &format!("{name}={path}")];
        request(&line, &[]).map(|request| request.contexts.into_keys().collect::<Vec<_>>())
    };
    for (typed, expected) in [
        ("src", "src"),
        ("SRC", "src"),
        ("foo:latest", "foo"),
        ("docker.io/library/foo", "foo"),
        ("index.docker.io/a/b:V1", "a/b:V1"),
        ("localhost:5000/k/mv:latest", "localhost:5000/k/mv"),
        ("foo:1::linux/arm64/v8", "foo:1::linux/arm64"),
    ] {
        assert_eq!(name(typed).unwrap(), [expected], "{typed}");
    }
    for typed in ["a b", "a:b:c", "foo::", "/x"] {
        let error = name(typed).unwrap_err().to_string();
        assert!(error.contains("neither a stage's nor an image's"), "{typed}: {error}");
    }
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    for (path, words) in [("gone", "there is no such directory"), ("file", "not a directory")] {
        let text = format!("x={}", directory.path().join(path).display());
        let error = request(&["--build-context", &text], &[]).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_context_that_is_no_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let gone = directory.path().join("gone");
    for (path, words) in [
        (file.to_str().unwrap(), "is not a directory"),
        (gone.to_str().unwrap(), "does not exist"),
        ("https://example.com/x.git", "fetch it first"),
    ] {
        let line = Line::try_parse_from(["smartbuild", path]).unwrap();
        let context = line.command.context;
        let error = Request::new(&line.command.options, context, &Environment::empty())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn the_settings_file_says_what_the_command_line_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("smartbuild.toml");
    fs::write(
        &config,
        "tags = ['h.example/a:1']\nrefresh = 'weekly'\nfile = 'build/Dockerfile'\n[build-args]\nA = '1'\nB = '1'\nC = '1'\n",
    )
    .unwrap();
    let config = config.to_str().unwrap();
    let line = ["--config", config, "--build-arg", "A=2", "--build-arg", "C"];
    let request = request(&line, &[]).unwrap();
    assert_eq!(tags(&request), ["h.example/a:1"]);
    assert_eq!(request.refresh, Some(Refresh::Weekly));
    assert_eq!(request.build_args["A"], "2");
    assert_eq!(request.build_args["B"], "1");
    assert_eq!(request.build_args.get("C"), None, "it was typed, and no variable has a value");
    let dockerfile = directory.path().join("build/Dockerfile");
    assert_eq!(request.dockerfile, DockerfileSource::File(dockerfile));
}

#[test]
fn a_broken_settings_file_is_named_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("x.toml");
    fs::write(&config, "push = true\ntagz = []\n").unwrap();
    let error = request(&["--config", config.to_str().unwrap()], &[]).unwrap_err().to_string();
    assert!(
        error.contains("x.toml") && error.contains("tagz") && error.contains("line 2"),
        "{error}"
    );
}

#[test]
fn a_build_is_shown_as_asked_for_and_else_as_the_environment_says() {
    let plain = [("BUILDKIT_PROGRESS", "plain")];
    let shown =
        |line: &[&str], variables: &[(&str, &str)]| request(line, variables).unwrap().progress;
    assert_eq!(shown(&[], &[]), Progress::Auto);
    assert_eq!(shown(&[], &plain), Progress::Plain);
    assert_eq!(shown(&["--progress=tty"], &plain), Progress::Tty);
    let error = request(&[], &[("BUILDKIT_PROGRESS", "loud")]).unwrap_err().to_string();
    assert!(error.contains("BUILDKIT_PROGRESS loud"), "{error}");
    for line in ["--quiet", "--progress=quiet"] {
        let request = request(&[line], &plain).unwrap();
        assert_eq!((request.progress, request.verbosity), (Progress::Quiet, Verbosity::Quiet));
    }
}

#[test]
fn switches_are_turned_off_as_docker_turns_them_off() {
    let on = request(&["--push", "--pull=true", "--no-cache=1"], &PIPELINE).unwrap();
    assert!(on.push && on.pull && on.no_cache);
    let off = request(&["--push=false", "--pull=0", "--no-cache=false", "--rm=true"], &[]).unwrap();
    assert!(!(off.push || off.pull || off.no_cache));
}

#[test]
fn offline_asks_no_registry_whatever_the_settings_file_says() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("s.toml");
    fs::write(&config, "push = true\ntags = [\"localhost:5000/a:1\"]\n").unwrap();
    let config = config.to_str().unwrap();
    assert!(request(&["--config", config], &[]).unwrap().push);
    assert!(!request(&["--config", config, "--push=false"], &[]).unwrap().push);
    let offline = request(&["--config", config, "--offline"], &[]).unwrap();
    assert!(offline.offline && !offline.push);
    for option in ["--push", "--pull"] {
        let error = request(&["--offline", option], &PIPELINE).unwrap_err().to_string();
        assert!(error.contains(option) && error.contains("--offline"), "{error}");
    }
}

#[test]
fn hosts_are_written_in_either_form() {
    let hosts = |text: &str| request(&["--add-host", text], &[]).map(|request| request.add_host);
    for (text, host) in [
        ("a:1.2.3.4", "a:1.2.3.4"),
        ("a=1.2.3.4", "a:1.2.3.4"),
        ("a:[::1]", "a:::1"),
        ("a=::1", "a:::1"),
        ("a:host-gateway", "a:host-gateway"),
    ] {
        assert_eq!(hosts(text).unwrap(), [host], "{text}");
    }
    for text in ["a", "a:", ":1.2.3.4", "a:1.2.3"] {
        assert!(hosts(text).unwrap_err().to_string().contains("--add-host"), "{text}");
    }
}

#[test]
fn networks_that_no_builder_knows_are_refused() {
    let network = |name: &str| request(&["--network", name], &[]).map(|request| request.network);
    assert_eq!(network("bridge").unwrap().as_deref(), Some("default"));
    assert_eq!(network("none").unwrap().as_deref(), Some("none"));
    assert!(network("foo").unwrap_err().to_string().contains("default, none or host"));
}

#[test]
fn the_default_platform_is_that_of_docker() {
    let platforms = |line: &[&str]| {
        let request = request(line, &[("DOCKER_DEFAULT_PLATFORM", "linux/arm64")]).unwrap();
        request.platforms.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(platforms(&[]), ["linux/arm64"]);
    assert_eq!(platforms(&["--platform", "linux/amd64"]), ["linux/amd64"]);
}

#[test]
fn the_settings_file_of_the_documentation_is_one() {
    let text = include_str!("../../docs/usage.md");
    let example = text.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let place = tempfile::tempdir().unwrap();
    let (config, assets) = (place.path().join("app/s.toml"), place.path().join("assets"));
    fs::create_dir(config.parent().unwrap()).unwrap();
    fs::create_dir(&assets).unwrap();
    fs::write(&config, example).unwrap();
    let request = request(&["--config", config.to_str().unwrap()], &[]).unwrap();
    assert!(request.push && request.refresh.is_some());
    assert_eq!(request.platforms.len(), 2);
    assert_eq!(request.build_args["VERSION"], "2.1");
    assert!(request.contexts["assets"].ends_with("app/../assets"));
    let DockerfileSource::File(file) = &request.dockerfile else { panic!("it is not stdin") };
    assert!(file.ends_with("app/docker/Dockerfile"), "{}", file.display());
}

#[test]
fn the_settings_file_takes_the_names_of_the_options_as_they_are() {
    let place = tempfile::tempdir().unwrap();
    let config = place.path().join("s.toml");
    let text = "tag = [\"a:1\"]\nplatform = [\"linux/arm64\"]\ncache-stages = [\"Deps\"]\n\
                [build-arg]\nA = \"1\"\n";
    fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let request = |line: &[&str]| request(&[&["--config", config], line].concat(), &[]).unwrap();
    let set = request(&[]);
    assert_eq!(tags(&set), ["docker.io/library/a:1"]);
    assert_eq!(set.cache_stages.unwrap(), ["deps"]);
    assert_eq!(set.build_args["A"], "1");
    assert_eq!(tags(&request(&["-t", "b:1"])), ["docker.io/library/b:1"]);
}

#[test]
fn no_error_repeats_a_secret_that_was_written_in_the_wrong_place() {
    let refused = |line: &[&str], variables: &[(&str, &str)]| {
        let error = request(line, variables).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{error}");
        error
    };
    for image in ["https://bob:s3cret@r.example/app", "bob:s3cret@r.example:5000", "s3cret@x/y"] {
        let error = refused(&[], &[("IMAGE_URL", image), ("CI_PIPELINE_IID", "1")]);
        assert!(error.contains("***@") && error.contains("REGISTRY_PASSWORD"), "{error}");
        refused(&["-t", image], &[]);
        refused(&["--keys-in", image], &[]);
    }
    for place in ["s3cret-s3cret-s3cret", "env:s3cret"] {
        let error = refused(&["--sign-key", place], &[]);
        assert!(error.starts_with("--sign-key names a"), "{error}");
        refused(&["--verify-key", place], &[]);
    }
    let digest = request(&["-t", "r.example/app@sha256:0"], &[]).unwrap_err().to_string();
    assert!(digest.contains("app@sha256:0"), "{digest}");
}

#[test]
fn a_time_that_is_none_is_refused_and_one_without_end_is_a_day() {
    let time = |value: &str| {
        let environment = Environment::empty().with("SMARTBUILD_REGISTRY_TIMEOUT", value);
        registry_timeout(&environment)
    };
    assert_eq!(time("300").unwrap(), Some(Duration::from_secs(300)));
    assert_eq!(time("18446744073709551615").unwrap(), Some(Duration::from_secs(86_400)));
    assert_eq!(registry_timeout(&Environment::empty()).unwrap(), None);
    for wrong in ["5m", "0", "-1", "18446744073709551616"] {
        let error = request(&[], &[("SMARTBUILD_REGISTRY_TIMEOUT", wrong)]).unwrap_err();
        assert!(error.to_string().contains("write it in seconds"), "{error}");
    }
}
