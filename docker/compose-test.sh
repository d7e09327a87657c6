#!/usr/bin/env bash
# Builds the images, brings everything up, stylizes, kills the worker and restarts Redis under load, and cleans up.
# Needs Docker with compose, and curl. TORCH=cpu builds the small worker.
set -euo pipefail
cd "$(dirname "$0")/.."

unset "${!ATELIER_@}"  # the defaults are what is tested
export ATELIER_TAG=compose-test
export ATELIER_PORT=0  # any free one
project=atelier-test-$$
folder=$(mktemp -d)
url=

dc() { docker compose --ansi never --progress plain --project-name "$project" --env-file /dev/null --file docker-compose.yml "$@"; }
step() { printf '\n== %3ss  %s\n' "$SECONDS" "$*"; }
fail() {
    printf 'compose-test: %s\n' "$*" >&2
    exit 1
}
http() { curl --silent --show-error --noproxy '*' --max-time 90 "$@"; }

# shellcheck disable=SC2317  # called by the trap
clean_up() {
    status=$?
    trap - EXIT
    if [ "$status" -ne 0 ]; then
        step "failed; this is how it stands"
        dc ps --all || true
        dc logs --no-color --timestamps --tail 200 || true
    fi
    dc down --volumes --remove-orphans --timeout 10 >"$folder/down.log" 2>&1 || cat "$folder/down.log" >&2
    rm -rf "$folder"
    exit "$status"
}
trap clean_up EXIT

# wait_for SECONDS WHAT COMMAND...
wait_for() {
    local seconds=$1 what=$2 deadline
    shift 2
    deadline=$((SECONDS + seconds))
    until "$@"; do
        [ "$SECONDS" -lt "$deadline" ] || fail "waited $seconds seconds for $what"
        sleep 0.5
    done
}

ready() { [ "$(http --output /dev/null --write-out '%{http_code}' "$url/readyz" 2>/dev/null)" = 200 ]; }
member() { sed -n "s/.*\"$1\":\"\{0,1\}\([a-z0-9_-]*\).*/\1/p"; } # of a JSON object, by its last mention
job() { http --fail "$url$1" | member "$2"; }
known() { job "$1" state >"$folder/state" 2>&1; }

# post SIZE: sends the large picture as a job; its address
post() {
    local status
    status=$(http --output "$folder/answer" --dump-header "$folder/headers" --write-out '%{http_code}' \
        --header 'Prefer: respond-async' --header 'Cache-Control: no-store' --form "image=@$folder/large.jpg" --form "style=$style" --form "size=$1" \
        "$url/stylize")
    [ "$status" = 202 ] || fail "a job was answered with $status: $(cat "$folder/answer")"
    tr -d '\r' <"$folder/headers" | sed -n 's/^[Ll]ocation: //p'
}

# count STATE JOB...: how many of them are in this state
count() {
    local state=$1 address found=0
    shift
    for address; do
        if [ "$(job "$address" state)" = "$state" ]; then found=$((found + 1)); fi
    done
    echo "$found"
}
some_run() { [ "$(count running "$@")" -gt 0 ]; }
all_succeeded() {
    [ "$(count failed "$@")" = 0 ] || fail "a job failed"
    [ "$(count succeeded "$@")" = $# ]
}
tried_again() {
    local address found=0
    for address; do
        if [ "$(job "$address" attempt)" -gt 1 ]; then found=$((found + 1)); fi
    done
    echo "$found"
}
restarts() { docker inspect --format '{{.RestartCount}}' "$(dc ps --all --quiet worker)"; }
was_restarted() { [ "$(restarts)" -gt 0 ]; }

command -v curl >/dev/null || fail "needs curl"
docker compose version >/dev/null || fail "needs Docker with compose"

step "the compose files are valid, also with a GPU"
dc config --quiet
dc --file docker-compose.gpu.yml config --quiet

step "build"
dc build
for image in gateway worker; do
    printf '%s: %s MB\n' "$image" $(($(docker image inspect --format '{{.Size}}' "atelier-$image:$ATELIER_TAG") / 1000000))
done

step "start"
dc up --detach --wait --wait-timeout 300
url=http://$(dc port gateway 8000)
echo "$url"

step "the gateway has no PyTorch; nobody is root or may write to the image"
if dc exec -T gateway python -c 'import torch' 2>"$folder/import.log"; then fail "the gateway has PyTorch"; fi
grep ModuleNotFoundError "$folder/import.log"
for service in redis gateway worker trainer; do
    [ "$(dc exec -T "$service" id -u)" != 0 ] || fail "$service runs as root"
    if dc exec -T "$service" touch /etc/written 2>/dev/null; then fail "$service may write to its image"; fi
done

step "every setting can be set"
passed_on() { # SERVICE MODULE CLASS DOCKERFILE
    local name
    dc config --format json "$1" >"$folder/config"
    for name in $(dc exec -T "$1" python -c "
from $2 import $3
print(*('ATELIER_' + name.upper() for name in $3.model_fields))"); do
        grep -q "\"$name\":" "$folder/config" || grep -q " $name=" "docker/$4.Dockerfile" ||
            fail "docker-compose.yml does not pass $name on to the $1"
    done
}
passed_on gateway service.settings ServiceSettings gateway
passed_on worker worker.settings WorkerSettings worker
passed_on trainer trainer.settings TrainerSettings worker

step "draw photographs"
draw='
import sys
from PIL import Image, ImageDraw
width, height = int(sys.argv[1]), int(sys.argv[2])
sky = Image.linear_gradient("L").resize((width, height))
photograph = Image.merge("RGB", (sky, sky.point(lambda v: 255 - v // 2), sky.point(lambda v: 255 - v // 4)))
draw = ImageDraw.Draw(photograph)
for i in range(40):
    x, y, r = i * 97 % width, i * 61 % height, 10 + i * 7 % (width // 8)
    draw.ellipse((x - r, y - r, x + r, y + r), fill=(i * 37 % 256, i * 91 % 256, i * 53 % 256))
photograph.save(sys.stdout.buffer, "JPEG", quality=92)
'
dc exec -T gateway python -c "$draw" 640 427 >"$folder/photograph.jpg"
dc exec -T gateway python -c "$draw" 1200 900 >"$folder/large.jpg"

style=$(http --fail "$url/styles" | grep -o '"name":"[a-z0-9_-]*"' | head -1 | cut -d '"' -f 4 || true)
[ -n "$style" ] || fail "there is no built-in style"
step "the style is $style"
wait_for 60 "the service to be ready" ready

step "stylize"
status=$(http --output "$folder/stylized.jpg" --dump-header "$folder/headers" --write-out '%{http_code} %{content_type}' \
    --header 'Prefer: wait=60' --form "image=@$folder/photograph.jpg" --form "style=$style" "$url/stylize")
[ "$status" = "200 image/jpeg" ] ||
    fail "the answer was $status: $(head -c 500 "$folder/stylized.jpg")"
first=/jobs/$(tr -d '\r' <"$folder/headers" | sed -n 's/^[Xx]-[Jj]ob-[Ii]d: //p')
dc exec -T gateway python -c '
import io, sys
from PIL import Image
picture = Image.open(io.BytesIO(sys.stdin.buffer.read()))
picture.load()
print(picture.format, *picture.size)' <"$folder/stylized.jpg" | tee "$folder/picture"
grep -qx 'JPEG 640 427' "$folder/picture" || fail "that is not the picture asked for"

step "kill the worker while it works: another one takes its place, and no job is lost"
jobs=()
for i in {1..12}; do jobs+=("$(post $((1100 + i)))"); done
wait_for 60 "a job to run" some_run "${jobs[@]}"
dc exec -T worker sh -c 'kill -9 -1' || true
echo "when it was killed, $(count running "${jobs[@]}") ran and $(count queued "${jobs[@]}") waited"
wait_for 60 "the worker to be restarted" was_restarted
wait_for 420 "the jobs to end" all_succeeded "${jobs[@]}"
again=$(tried_again "${jobs[@]}")
echo "all ${#jobs[@]} succeeded, $again of them at the second attempt"
[ "$again" -gt 0 ] || fail "no job was tried again, so the worker was not killed during one"

step "stop the worker politely, restart Redis, start the worker: nothing is lost either"
jobs=()
for i in {1..8}; do jobs+=("$(post $((1150 + i)))"); done
wait_for 60 "a job to run" some_run "${jobs[@]}"
dc stop worker
echo "when it had stopped, $(count running "${jobs[@]}") ran and $(count queued "${jobs[@]}") waited"
dc restart redis
wait_for 60 "Redis" known "$first"
echo "Redis is back, and $(count queued "${jobs[@]}") wait"
http --fail --output "$folder/again.jpg" "$url$first/result"
cmp "$folder/stylized.jpg" "$folder/again.jpg"
dc start worker
wait_for 420 "the jobs to end" all_succeeded "${jobs[@]}"
again=$(tried_again "${jobs[@]}")
echo "all ${#jobs[@]} succeeded"
[ "$again" = 0 ] || fail "the worker left $again of its jobs unfinished when it was stopped politely"
wait_for 60 "the service to be ready" ready

step "done"
echo "compose-test: ok"
