# shellcheck shell=sh
# The demonstration: the main job, in front of the reader. Read by install.sh, which has set $here
# and $bin and read tests/machine.sh.

: "${here:?}" "${bin:?}"
[ "$(uname -s)" = Linux ] || die "the demonstration needs Linux; both programs are installed"

# What is not there yet. The base image is made from busybox, so that nothing comes from afar.
packages=$(missing docker-registry:docker-registry htpasswd:apache2-utils busybox:busybox-static)
engine_host=${DOCKER_HOST:-unix:///var/run/docker.sock}
own_engine=
builder=
if ! engine_answers "$engine_host" && ! can_start_engine; then
    # buildah builds without rights and without an engine.
    builder=SMARTBUILD_ENGINE=buildah
    packages="$packages $(missing buildah:buildah newuidmap:uidmap)"
elif ! engine_answers "$engine_host"; then
    own_engine=yes
    if ! have docker || ! PATH=$PATH:/usr/sbin have dockerd; then
        packages="$packages $(engine_packages)"
    fi
fi
packages=$(echo "$packages" | xargs)
if [ -n "$packages" ]; then
    ask "The demonstration needs these packages: $packages. Install them?" ||
        die "no packages, no demonstration; both programs are installed"
    # shellcheck disable=SC2086 # a list
    install_packages $packages
fi

demo=$(mktemp -d /var/tmp/smartbuild-demo.XXXXXX)
registry=
# The images without a name that steps leave in buildah's store, to be used again.
steps_left() {
    [ "$builder" != SMARTBUILD_ENGINE=buildah ] ||
        buildah images --all --quiet --no-trunc --filter dangling=true
}
steps_before=$(steps_left)
demo_end() {
    if [ -n "$registry" ]; then
        # What was built goes before what it was built from, and that before what its steps left.
        for repository in hello base; do
            if [ "$builder" = SMARTBUILD_ENGINE=buildah ]; then
                buildah images --quiet --filter "reference=$host/demo/$repository" |
                    xargs -r buildah rmi --force >/dev/null 2>&1 || :
                continue
            fi
            DOCKER_HOST=$engine_host docker image ls --filter "reference=$host/demo/$repository" \
                --format '{{.Repository}}:{{.Tag}}' |
                DOCKER_HOST=$engine_host xargs -r docker image rm >/dev/null 2>&1 || :
        done
        for image in $(steps_left); do
            case $steps_before in *"$image"*) ;; *) buildah rmi "$image" >/dev/null 2>&1 || : ;; esac
        done
        kill "$registry" 2>/dev/null || :
    fi
    stop_engine
    rm -rf "$demo"
}
trap demo_end EXIT
trap 'exit 130' INT TERM

if [ -n "$own_engine" ]; then
    say "No Docker Engine of this machine answers at $engine_host."
    ask "Start one for the demonstration? It ends with it." ||
        die "no engine, no demonstration; both programs are installed"
    start_engine
    say "Started one of our own at $engine_host; it ends with the demonstration."
elif [ "$builder" = SMARTBUILD_ENGINE=buildah ]; then
    say "No Docker Engine answers at $engine_host, and none can be started here: using buildah."
else
    say "Using the Docker Engine at $engine_host."
fi

builder=${builder:-DOCKER_HOST=$engine_host}

# A registry that asks for a password, as the real one does. Passwords go through pipes and the
# environment, never through arguments.
REGISTRY_USERNAME=robin@5939306421830868
REGISTRY_PASSWORD=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
printf %s "$REGISTRY_PASSWORD" | htpasswd -niB "$REGISTRY_USERNAME" >"$demo/htpasswd" 2>/dev/null
cat >"$demo/registry.yml" <<END
version: 0.1
storage: { filesystem: { rootdirectory: "$demo/data" } }
http: { addr: "127.0.0.1:0" }
auth: { htpasswd: { realm: demo, path: "$demo/htpasswd" } }
END
docker-registry serve "$demo/registry.yml" </dev/null >"$demo/registry.log" 2>&1 &
registry=$!
listening() { grep -qs 'listening on' "$demo/registry.log"; }
wait_for 30 listening || die "docker-registry did not start: $(tail -n 5 "$demo/registry.log")"
REGISTRY_URL=$(sed -n 's/.*listening on \([0-9.:]*\).*/\1/p' "$demo/registry.log")
host=$REGISTRY_URL
IMAGE_URL=$host/demo/hello
say "Started a registry at $host; it ends with the demonstration."

# Here Docker finds the helper in PATH, and nothing of the reader's own configuration.
PATH=$bin:$PATH
DOCKER_CONFIG=$demo/docker
export PATH DOCKER_CONFIG REGISTRY_USERNAME REGISTRY_PASSWORD REGISTRY_URL IMAGE_URL
unset DOCKER_AUTH_CONFIG DOCKER_HOST DOCKER_CONTEXT REGISTRY_PASSWORD_FILE
mkdir "$demo/docker"
docker-credential-aliyun configure "$host" >/dev/null 2>"$demo/configure.log" ||
    die "docker-credential-aliyun configure: $(cat "$demo/configure.log")"

busybox=$(command -v busybox)
mkdir -p "$demo/root/bin" "$demo/root/tmp"
cp "$busybox" "$demo/root/bin/busybox"
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$demo/root/bin/$applet"
done
base=$host/demo/base:1
if [ "$builder" = SMARTBUILD_ENGINE=buildah ]; then
    printf 'FROM scratch\nCOPY . /\nENV PATH=/bin:/usr/bin\n' >"$demo/base"
    env "$builder" smartbuild --quiet --push --tag "$base" --file "$demo/base" "$demo/root" >/dev/null
    say "Built a base image with buildah, and pushed it to the registry."
else
    tar -C "$demo/root" --owner=0 --group=0 --numeric-owner -cf - . |
        DOCKER_HOST=$engine_host docker import --change 'ENV PATH=/bin:/usr/bin' - "$base" >/dev/null
    DOCKER_HOST=$engine_host docker push --quiet "$base" >/dev/null
    say "Pushed a base image to it; Docker got the password from docker-credential-aliyun."
fi

# From here on as in a pipeline: the job's script is this one line, and these are its variables.
cp -r "$here/examples/hello" "$demo/hello"
job() {
    say ""
    say "\$ CI_PIPELINE_IID=$1 $2 smartbuild --push --build-arg BASE=$base"
    before=$(date +%s%N)
    (cd "$demo/hello" &&
        env CI_PIPELINE_IID="$1" "$2" smartbuild --push --build-arg "BASE=$base") || return 1
    took=$((($(date +%s%N) - before) / 1000000))
}
job 1 "$builder" || die "the first run failed"
built=$took
job 2 DOCKER_HOST=unix:///nowhere.sock || die "the second run did not skip"
skipped=$took

tags=$demo/data/docker/registry/v2/repositories/demo/hello/_manifests/tags
for tag in 2 latest; do
    cmp -s "$tags/1/current/link" "$tags/$tag/current/link" ||
        die "the tags 1 and $tag are not the same image"
done
say ""
awk -v built="$built" -v skipped="$skipped" 'BEGIN {
    if (skipped < 1) skipped = 1
    printf "first run    %8.3f s   built and pushed\n", built / 1000
    printf "second run   %8.3f s   skipped: nothing changed, no engine was asked (%.0f times faster)\n",
        skipped / 1000, built / skipped
}' >&2
say "Both pushed their tag and latest; 1, 2 and latest are one image, $(cut -c 1-19 "$tags/2/current/link")..."
