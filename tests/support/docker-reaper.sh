# Arguments: how the ids of a test process's apps begin, and their images. Ends with that process,
# whose end closes our standard input, and takes along what it left in the engine.
trap '' INT TERM HUP
begin=$1 images=$2
cat >/dev/null
of_the_test() { awk -v begin="$begin" 'index($2, begin) == 1 { print $1 }'; }
app='{{.ID}} {{.Label "paas.app"}}'
docker ps -a --filter label=paas.app --format "$app" | of_the_test | xargs -r docker rm -f
docker images --format '{{.Repository}}:{{.Tag}}' | grep -F "$images" | xargs -r docker rmi -f
docker images -q --filter label=paas.app | sort -u |
    xargs -r docker image inspect -f '{{.Id}} {{index .Config.Labels "paas.app"}}' | of_the_test | xargs -r docker rmi -f
docker network ls --filter label=paas.app --format "$app" | of_the_test | xargs -r docker network rm
