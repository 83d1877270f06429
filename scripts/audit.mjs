// `npm run audit`: what the registry knows against the packages that a user of this package gets. Ends with 1 where it knows something that
// `explained` has no reason for, and with 0 and a word where no registry answers.
import { spawnSync } from 'node:child_process'
import { root } from './bootstrap.mjs'

/** GitHub advisory → why it does not concern us. */
const explained = {}

const { stdout } = spawnSync('npm', ['audit', '--omit=dev', '--json'], {
  cwd: root,
  encoding: 'utf8',
  maxBuffer: 2 ** 26,
})
let report
try {
  report = JSON.parse(stdout)
} catch {
  report = {}
}
if (report.vulnerabilities === undefined) {
  process.stdout.write(
    `audit skipped: the registry does not answer (${report.message ?? report.error?.summary ?? 'no network'})\n`,
  )
  process.exit(0)
}
const advisories = Object.values(report.vulnerabilities).flatMap(({ name, via }) =>
  via.filter(each => typeof each === 'object').map(({ url, title, severity }) => ({ name, url, title, severity })),
)
const open = advisories.filter(({ url }) => explained[url] === undefined)
for (const { name, url, title, severity } of open) process.stdout.write(`${name}: ${severity}: ${title} ${url}\n`)
process.stdout.write(`audit: ${advisories.length} advisories, ${open.length} without a reason\n`)
process.exit(open.length === 0 ? 0 : 1)
