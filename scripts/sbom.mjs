// The bill of materials of the package (CycloneDX, JSON), made by npm from the lock file: what a user of the package gets with it, without what
// only development needs. `npm run package` puts it into dist/, and so into the tarball. Without time and serial number, so that the same lock
// file gives the same bytes.
import { execFileSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { root } from './bootstrap.mjs'

const to = process.argv[2] ?? join(root, 'dist/sbom.cdx.json')
// Not `--omit=dev`, which leaves out most of what dependencies depend on: npm marks what is for development only.
const args = ['sbom', '--sbom-format=cyclonedx', '--package-lock-only']
const {
  serialNumber: _serial,
  metadata,
  components,
  dependencies,
  ...bom
} = JSON.parse(execFileSync('npm', args, { cwd: root, encoding: 'utf8', maxBuffer: 2 ** 26 }))
const isForUsers = ({ properties = [] }) => !properties.some(({ name }) => name === 'cdx:npm:package:development')
const shipped = components.filter(isForUsers)
const known = new Set([metadata.component, ...shipped].map(each => each['bom-ref']))
const relations = dependencies
  .filter(({ ref }) => known.has(ref))
  .map(({ ref, dependsOn }) => ({ ref, dependsOn: dependsOn.filter(each => known.has(each)) }))
const { timestamp: _time, ...lasting } = metadata
mkdirSync(dirname(to), { recursive: true })
writeFileSync(
  to,
  `${JSON.stringify({ ...bom, metadata: lasting, components: shipped, dependencies: relations }, null, 2)}\n`,
)
process.stdout.write(`${to}: ${shipped.length} components\n`)
