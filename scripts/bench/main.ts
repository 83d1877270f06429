// `npm run bench [-- NAME…] [--json FILE] [--compare FILE] [--list] [--quick] [--full]`: runs the benchmarks, one line for people each
// figure, its change since an earlier run, and the same as JSON lines appended to a file.
import { appendFileSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { acme } from './acme.ts'
import { agentRenew } from './agent-renew.ts'
import type { Bench, BenchContext } from './bench.ts'
import { crl } from './crl.ts'
import { cut } from './cut.ts'
import { feed } from './feed.ts'
import { changeOf, type Figure, figureOf, lineOf, readFigures } from './figure.ts'
import { fleet } from './fleet.ts'
import { issue } from './issue.ts'
import { issueSlowHsm } from './issue-slow-hsm.ts'
import { ledger } from './ledger.ts'
import { ocsp } from './ocsp.ts'
import { refused } from './refused.ts'
import { renew } from './renew.ts'
import { start } from './start.ts'
import { verify } from './verify.ts'

const benches: readonly Bench[] = [
  issue,
  issueSlowHsm,
  renew,
  ledger,
  start,
  ocsp,
  crl,
  feed,
  verify,
  agentRenew,
  refused,
  cut,
  acme,
  fleet,
]

const usage = 'usage: npm run bench [-- NAME…] [--json FILE] [--compare FILE] [--list] [--quick] [--full]'

const print = (text: string): void => {
  process.stdout.write(`${text}\n`)
}

const runBench = async (
  bench: Bench,
  options: {
    readonly json: string | undefined
    readonly earlier: ReadonlyMap<string, Figure>
    quick: boolean
    full: boolean
  },
) => {
  const directory = mkdtempSync(join(tmpdir(), 'agentca-bench-'))
  const context: BenchContext = {
    directory,
    quick: options.quick,
    full: options.full,
    found: measured => {
      const figure = figureOf(bench.name, measured)
      print(lineOf(figure))
      const change = changeOf(figure, options.earlier.get(`${figure.bench}/${figure.metric}`))
      if (change !== null) print(`  ${change}`)
      if (options.json !== undefined) appendFileSync(options.json, `${JSON.stringify(figure)}\n`)
    },
    say: text => print(`  ${text}`),
  }
  try {
    await bench.run(context)
  } finally {
    rmSync(directory, { recursive: true, force: true })
  }
}

const main = async (): Promise<number> => {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      json: { type: 'string' },
      compare: { type: 'string' },
      list: { type: 'boolean', default: false },
      quick: { type: 'boolean', default: false },
      full: { type: 'boolean', default: false },
    },
  })
  if (values.list) {
    for (const { name, metrics } of benches) for (const metric of metrics) print(`${name}/${metric}`)
    return 0
  }
  const unknown = positionals.filter(name => !benches.some(bench => bench.name === name))
  if (unknown.length > 0) {
    process.stderr.write(
      `no benchmark is called ${unknown.join(', ')}: ${benches.map(({ name }) => name).join(', ')}\n${usage}\n`,
    )
    return 2
  }
  let earlier: ReadonlyMap<string, Figure> = new Map()
  try {
    if (values.compare !== undefined) earlier = readFigures(readFileSync(values.compare, 'utf8'))
  } catch (error) {
    process.stderr.write(
      `--compare ${values.compare}: ${(error as Error).message}; expected a file that --json wrote\n`,
    )
    return 2
  }
  // A configuration of the person who runs this must not decide what is measured.
  for (const name of Object.keys(process.env)) if (name.startsWith('AGENTCA_')) delete process.env[name]
  for (const bench of benches.filter(({ name }) => positionals.length === 0 || positionals.includes(name)))
    await runBench(bench, { json: values.json, earlier, quick: values.quick, full: values.full })
  return 0
}

process.exitCode = await main()
