#!/bin/sh
# make deploy-k8s: render an overlay, look that nothing is missing, apply it to kubectl's cluster, wait until it serves.
#
#   infra/kubernetes/deploy.sh dev | prod | FOLDER
set -eu

fail() {
	printf '%s\n' "$@" >&2
	exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
overlay=${1:?"name an overlay: dev, prod, or the folder of one"}
case $overlay in
*/*) folder=$overlay ;;
*) folder=$here/overlays/$overlay ;;
esac
[ -f "$folder/kustomization.yaml" ] || fail "OVERLAY=$overlay: there is no $folder/kustomization.yaml"
command -v kubectl >/dev/null || fail "kubectl is not installed: see kubernetes.io/docs/tasks/tools"

rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT
kubectl kustomize "$folder" >"$rendered"
if grep -q my-project "$rendered"; then
	fail "$folder still names my-project; write your own project's name in:" "$(grep -rl my-project "$folder" "$here/components")"
fi
namespace=$(awk '/^kind: Namespace$/ { inside = 1 } inside && /^  name: / { print $2; exit }' "$rendered")
[ -n "$namespace" ] || fail "$folder has no Namespace: add one, as in $here/overlays/prod/namespace.yaml"

context=$(kubectl config current-context 2>/dev/null) || fail "kubectl has no current context: choose a cluster (kubectl config use-context)"
kubectl --request-timeout=10s get --raw /readyz >/dev/null || fail "The cluster of kubectl's context $context does not answer."
kubectl --request-timeout=10s get secret goagents --namespace "$namespace" >/dev/null 2>&1 || fail \
	"The namespace $namespace has no Secret goagents. Make it once (infra/kubernetes/README.md says what is in it):" \
	"  kubectl create namespace $namespace" \
	"  kubectl create secret generic goagents --namespace $namespace --from-env-file=goagents.env"

echo "Applying $folder to the context $context …"
kubectl apply --filename "$rendered"
kubectl rollout status deployment/goagents --namespace "$namespace" --timeout=180s
