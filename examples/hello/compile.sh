# Compiles each page of SRC into OUT; a page that CACHE has from before is taken from there.
# usage: compile.sh SRC CACHE OUT
set -e
mkdir -p "$3"
for page in "$1"/*.txt; do
  name=$(basename "$page" .txt)
  key=$(sha256sum < "$page" | cut -c1-16)
  if [ -e "$2/$key.html" ]; then
    echo "$name: from the cache"
  else
    echo "$name: compiling"
    # A compiler takes its time.
    sleep 1
    { echo "<!doctype html><title>$name</title><pre>"; sed 's/&/\&amp;/g; s/</\&lt;/g' "$page"; echo '</pre>'; } > "$2/$key.tmp"
    mv "$2/$key.tmp" "$2/$key.html"
  fi
  cp "$2/$key.html" "$3/$name.html"
done
