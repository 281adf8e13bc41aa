#!/usr/bin/env bash
# Pulls the images of a list, for a CI job.
#
#   FASTPULL_DIR     where the program is (default: ./.fastpull)
#   FASTPULL_LIST    the list, one image a line (default: images.txt)
#   FASTPULL_STORE   put images into this store; without it, into the job's Docker Engine
#   FASTPULL_CACHE   keep the store in this archive, and begin with what it has
#   FASTPULL_ARGS    more arguments of fastpull pull, split at blanks
#   FASTPULL_SUDO    1: become root, for a store that a dockerd or a mount can use
#   FASTPULL_REPORT  append the report of the run to this file (default: fastpull.jsonl)
#   GITHUB_OUTPUT    outputs go there: images, store, report
#   FASTPULL_DOTENV  outputs go there, as GitLab takes them: also cache_hit
set -euo pipefail

program=${FASTPULL_DIR:-$PWD/.fastpull}/fastpull
list=${FASTPULL_LIST:-images.txt}
store=${FASTPULL_STORE:-}
cache=${FASTPULL_CACHE:-}
report=${FASTPULL_REPORT:-fastpull.jsonl}
read -r -a more <<< "${FASTPULL_ARGS:-}"

as=()
if [ "${FASTPULL_SUDO:-}" = 1 ] && [ "$(id -u)" != 0 ]; then
  keep=HOME,TMPDIR,XDG_RUNTIME_DIR,XDG_CONFIG_HOME,FASTPULL_GZIP,REGISTRY_AUTH_FILE
  keep+=,DOCKER_HOST,DOCKER_CERT_PATH,DOCKER_TLS_VERIFY,DOCKER_CONFIG,SSL_CERT_FILE,SSL_CERT_DIR
  keep+=,HTTP_PROXY,HTTPS_PROXY,NO_PROXY,http_proxy,https_proxy,no_proxy
  as=(sudo "--preserve-env=$keep")
fi

# Owners, links and extended attributes are part of a store. A cache would lose them, and so
# the store is cached as an archive.
archive=(tar --xattrs '--xattrs-include=*' --acls --numeric-owner)

to=(--load)
hit=false
if [ -n "$store" ]; then
  to=(--store "$store")
  if [ -n "$cache" ] && [ -f "$cache" ]; then
    mkdir -p "$(dirname "$store")"
    "${as[@]}" "${archive[@]}" -xpf "$cache" -C "$(dirname "$store")"
    hit=true
  fi
fi

touch "$report" # which stays the job's own
# Progress goes to the log; what is printed has a line for each image that is there. The script
# ends as the pull does, but last: a job that failed has its outputs, and the next one what was
# fetched.
code=0
printed=$("${as[@]}" "$program" pull "${to[@]}" --progress=plain --report "$report" -f "$list" "${more[@]}") || code=$?
images=$(cut -d ' ' -f 1 <<< "$printed")
echo "$printed"

if [ -n "${GITHUB_OUTPUT:-}" ]; then
  {
    echo "images<<end-of-images"
    echo "$images"
    echo "end-of-images"
    echo "store=$store"
    echo "report=$report"
  } >> "$GITHUB_OUTPUT"
fi
if [ -n "${FASTPULL_DOTENV:-}" ]; then
  {
    echo "store=$store"
    echo "report=$report"
    echo "cache_hit=$hit"
    # GitLab takes no value of several lines, and refuses a file of more than 5 KiB.
    if [ ${#images} -le 4096 ]; then
      echo "images=${images//$'\n'/,}"
    else
      echo "the output images is left out, since GitLab takes no value of that size; $report has them" >&2
    fi
  } > "$FASTPULL_DOTENV"
fi

if [ -n "$store" ] && [ -n "$cache" ] && "${as[@]}" test -d "$store"; then
  # What has lost its tag goes too, unless the list names an image by its digest alone.
  if [ "$code" != 0 ]; then
    : # prune would remove what was fetched of images that are not complete
  elif grep -q '^[^#]*@' "$list"; then
    "${as[@]}" "$program" prune --store "$store"
  else
    "${as[@]}" "$program" prune --store "$store" --images
  fi
  "${as[@]}" "${archive[@]}" -cf "$cache.new" -C "$(dirname "$store")" "$(basename "$store")"
  mv -f "$cache.new" "$cache"
fi
exit "$code"
