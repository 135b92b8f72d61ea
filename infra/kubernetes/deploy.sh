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
[ -f "$folder/kustomization.yaml" ] || fail "OVERLAY=$overlay: there is no $folder/kustomization.yaml" \
	"OVERLAY is dev, prod, or the folder of an overlay of your own, with a slash in it (./mine)."
command -v kubectl >/dev/null || fail "kubectl is not installed: see kubernetes.io/docs/tasks/tools"

# The folders that an overlay is made of: its own, and those that its kustomization names, in turn.
folders() {
	printf '%s\n' "$1"
	awk '
		{ sub(/#.*/, "") }
		/^[a-zA-Z]/ { named = /^(resources|components|bases):/; sub(/^[a-zA-Z]+:/, "") }
		named { gsub(/[][,"]/, " "); for (i = 1; i <= NF; i++) print $i }
	' "$1/kustomization.yaml" | while read -r word; do
		if [ -f "$1/$word/kustomization.yaml" ]; then folders "$(cd "$1/$word" && pwd)"; fi
	done
}

# What stands for a name of yours in what is here, whole: my-project-2 may be one.
ours='(^|[^a-z0-9-])(my-project|goagents\.example\.com)($|[^a-z0-9-])'
standing() {
	folders "$1" | while read -r each; do
		grep -En "$ours" "$each"/*.yaml /dev/null | grep -Ev '^[^:]*:[0-9]+: *#' || :
	done
}

rendered=$(mktemp)
trap 'rm -f "$rendered"' EXIT
kubectl kustomize "$folder" >"$rendered"
if grep -Eq "$ours" "$rendered"; then
	fail "OVERLAY=$overlay still has names that stand for yours. Replace them (infra/kubernetes/README.md) in:" \
		"$(standing "$folder")"
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
