// docs/compatibility.md: made of results, read back, compared. Pure but for the folder of results.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

export interface CheckResult {
  readonly subject: string
  /** '' where it was not found. */
  readonly version: string
  readonly from: string
  readonly check: string
  readonly result: 'passed' | 'failed' | 'skipped' | 'not run'
}

export const pageFile = 'docs/compatibility.md'

const intro = `# Compatibility

Programs that nobody here wrote, against a running CA. This page is made by the suite in [test/compat](../test/compat/README.md):
\`npm run test:compat\` runs it, \`npm run test:compat -- --write\` writes this page. \`npm test\` runs it too, and fails when the page lacks a check
or has one that is gone. What could not be installed is skipped, by name. How each one is configured: [docs/relying-parties.md](relying-parties.md).

`

const header = '| program | version | brought by | what was checked | result |\n|---|---|---|---|---|\n'

export const keyOf = ({ subject, check }: Pick<CheckResult, 'subject' | 'check'>): string => `${subject}: ${check}`

const cell = (text: string): string => text.replaceAll('|', '\\|')

/** By program, then as the suite has them. */
export const renderPage = (results: readonly CheckResult[]): string => {
  const subjects = [...new Set(results.map(({ subject }) => subject))].toSorted((a, b) =>
    a.toLowerCase() < b.toLowerCase() ? -1 : 1,
  )
  const rows = subjects
    .flatMap(subject => results.filter(each => each.subject === subject))
    .map(row => `| ${[row.subject, row.version, row.from, row.check, row.result].map(cell).join(' | ')} |\n`)
  return `${intro}${header}${rows.join('')}`
}

export const parsePage = (text: string): readonly CheckResult[] =>
  text
    .split('\n')
    .filter(line => line.startsWith('| ') && !line.startsWith('| program |'))
    .map(line => {
      const cells = line.slice(2, -2).split(/ \| /)
      const [subject, version, from, check, result] = cells.map(each => each.replaceAll('\\|', '|').trim())
      return { subject, version, from, check, result } as CheckResult
    })

/**
 * What the page says next: every check that the suite declares, with what it came to now, or else what the page said before.
 * @param ran results of this run, of some files or of all
 */
export const mergeResults = (
  declared: readonly CheckResult[],
  ran: readonly CheckResult[],
  before: readonly CheckResult[],
): readonly CheckResult[] => {
  const now = new Map(ran.filter(({ result }) => result !== 'not run').map(each => [keyOf(each), each]))
  const old = new Map(before.map(each => [keyOf(each), each]))
  return declared.map(each => now.get(keyOf(each)) ?? old.get(keyOf(each)) ?? each)
}

/** What test files left in a folder, in the order of their checks. */
export const readResults = (folder: string): readonly CheckResult[] =>
  existsSync(folder)
    ? readdirSync(folder)
        .filter(name => name.endsWith('.json'))
        .toSorted()
        .flatMap(name => JSON.parse(readFileSync(join(folder, name), 'utf8')) as CheckResult[])
        .toSorted((a, b) => (a.subject < b.subject ? -1 : a.subject > b.subject ? 1 : 0))
    : []
