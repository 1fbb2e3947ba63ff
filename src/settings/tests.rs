use std::fs;

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
fn a_context_that_is_no_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let gone = directory.path().join("gone");
    for (path, words) in [
        (file.to_str().unwrap(), "is not a directory"),
        (gone.to_str().unwrap(), "does not exist"),
        ("https://example.com/x.git", "check it out first"),
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
        "tags = ['h.example/a:1']\nrefresh = 'weekly'\nfile = 'build/Dockerfile'\n[build-args]\nA = '1'\nB = '1'\n",
    )
    .unwrap();
    let config = config.to_str().unwrap();
    let request = request(&["--config", config, "--build-arg", "A=2"], &[]).unwrap();
    assert_eq!(tags(&request), ["h.example/a:1"]);
    assert_eq!(request.refresh, Some(Refresh::Weekly));
    assert_eq!(request.build_args["A"], "2");
    assert_eq!(request.build_args["B"], "1");
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
