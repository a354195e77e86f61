# Npm installs a tree of packages, which is the same as outside, and what it installed runs.
. "${0%/*}/prelude.sh"

export npm_config_cache="$OUT/cache" npm_config_update_notifier=false npm_config_fund=false npm_config_audit=false
echo '{ "name": "probe", "version": "1.0.0", "private": true }' >package.json
npm install --silent express@4 semver@7 typescript@5
[ "$(ls node_modules | wc -l)" -gt 40 ] || fail "the tree is small"
mkdir "$OUT/outside"; cp package.json package-lock.json "$OUT/outside"; (cd "$OUT/outside" && npm ci --silent)
diff -r --no-dereference node_modules "$OUT/outside/node_modules"
echo 'export const twice = (n: number): number => 2 * n; console.log(twice(21));' >probe.ts
node_modules/.bin/tsc --strict --target es2022 --module commonjs probe.ts; [ "$(node probe.js)" = 42 ] || fail "tsc"
[ "$(node_modules/.bin/semver -r '>=2' 1.0.0 2.1.0)" = 2.1.0 ] || fail "semver"
node -e '
  const app = require("express")(); app.get("/", (_, answer) => answer.sendFile(process.cwd() + "/probe.ts"));
  const server = app.listen(0, "127.0.0.1", async () => {
    const text = await (await fetch("http://127.0.0.1:" + server.address().port)).text();
    server.close(); process.exit(text === require("fs").readFileSync("probe.ts", "utf8") ? 0 : 1);
  });'
npm uninstall --silent typescript; [ ! -e node_modules/typescript ] || fail "uninstall left something"
npm ci --silent; npm ls --silent >/dev/null
