// What README.md, SECURITY.md and docs/ promise: every command block is run, in order, against a CA of its own; configurations load; links lead
// somewhere.
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, symlinkSync } from 'node:fs'
import { dirname, join, resolve } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { root } from '../../scripts/bootstrap.mjs'
import { parseConfig } from '../../src/schema/config.ts'
import { parseMonitor } from '../../src/schema/monitor.ts'
import { runProgram, type ServedCa, startServedCa } from '../story/served-ca.ts'
import { type Block, blocksOf, documents, integrations, textOf } from './documents.ts'

/** By their first words; each stands for exactly one block. */
const notHere: readonly (readonly [file: string, words: string, reason: string])[] = [
  ['README.md', 'npm start', 'test/setup/start.test.ts runs it'],
  ['README.md', 'npm test', 'it is what is running'],
  ['docs/relying-parties.md', 'agentca-agent run', 'test/compat/servers.test.ts runs it: it stays'],
  ['docs/apply.md', 'agentca apply -f', 'test/cli/apply.test.ts runs it on a copy of these files'],
  ['docs/evidence.md', 'agentca attestor check', 'test/story/evidence.test.ts: it needs a provider that issues tokens'],
  ['docs/backup.md', 'age-keygen', 'test/story/backup.test.ts makes and opens backups: it needs the age command'],
  ['docs/backup.md', 'agentca backup restore', 'test/story/backup.test.ts goes this way back'],
  ['docs/operations.md', 'npm init', 'test/setup/pack.test.ts runs it'],
  ['docs/orphans.md', 'body=', 'test/http/leaver.test.ts runs it: it needs a provider’s secret'],
  ['docs/operations.md', 'useradd', 'it makes a user and a systemd service'],
  [
    'docs/operations.md',
    'systemctl stop agentca',
    'test/attack/served/two-users.test.ts does it, with users that are numbers',
  ],
  ['docs/operations.md', 'agentca ceremony issuing --input issuing-2.yaml --token-dir', 'as above'],
  ['docs/operations.md', 'cp -a "$home/root-ceremony"', 'the blocks after it need the root’s token'],
]

/** In one shell each: later blocks stand on what earlier ones made. */
const sessions: readonly (readonly string[])[] = [
  ['README.md', 'docs/relying-parties.md', 'docs/monitoring.md', 'docs/orphans.md', 'docs/events.md'],
  ['docs/operations.md'],
  ['docs/agents.md'],
  ['docs/policies.md'],
  ['docs/est.md'],
  ['docs/acme.md'],
  ['docs/keystores.md'],
]

const isNotHere = ({ file, text }: Block): boolean =>
  notHere.some(([name, words]) => file === name && text.startsWith(words))
const shellBlocks = documents.flatMap(blocksOf).filter(block => block.language === 'sh')
const blocksIn = (files: readonly string[]): readonly Block[] =>
  files.flatMap(file => shellBlocks.filter(block => block.file === file && !isNotHere(block)))
const nameOf = ({ file, line }: Block): string => `${file}:${line}`

let ca: ServedCa
let opsHost: string
beforeAll(async () => {
  ca = await startServedCa()
  opsHost = new URL(ca.line.ops).host
  // What a reader has around: the checkout, with the CA in it.
  const place = join(ca.directory, 'checkout')
  mkdirSync(place)
  for (const name of ['bin', 'ca-config']) symlinkSync(join(root, name), join(place, name))
  symlinkSync(ca.home, join(place, '.agentca'))
}, 120_000)
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

/** The ports of this CA for the usual ones; `# exit code N` behind a command is what it has to end with. */
const scriptOf = (block: Block): string =>
  block.text
    .replaceAll('127.0.0.1:8443', new URL(ca.urls.api).host)
    .replaceAll('127.0.0.1:8081', new URL(ca.urls.status).host)
    .replaceAll('127.0.0.1:9464', opsHost)
    .replaceAll(/^(.+?) +# exit code (\d+).*$/gm, 'code=0; $1 || code=$?; [ "$code" = $2 ]')

/** One shell for all; after each block it says so, and the first command that fails ends it. */
const runSession = async (files: readonly string[]): Promise<ReadonlyMap<string, string>> => {
  const blocks = blocksIn(files)
  const script = blocks.map(block => `${scriptOf(block)}\necho "== done ${nameOf(block)}"`)
  const { out, err } = await runProgram('bash', ['-euo', 'pipefail', '-c', script.join('\n')], {
    cwd: join(ca.directory, 'checkout'),
    env: { ...ca.env, TMPDIR: ca.directory },
  })
  const outcomes = new Map<string, string>()
  for (const block of blocks) {
    if (out.includes(`== done ${nameOf(block)}\n`)) outcomes.set(nameOf(block), 'done')
    else {
      outcomes.set(nameOf(block), err.slice(-2000))
      break
    }
  }
  return outcomes
}

describe.each(sessions)('the commands of %s', (...files) => {
  let outcomes: ReadonlyMap<string, string>
  beforeAll(async () => {
    outcomes = await runSession(files)
  }, 120_000)

  it.each(blocksIn(files).map(nameOf))('%s', name => {
    expect(outcomes.get(name) ?? 'an earlier block failed').toBe('done')
  })
})

describe('blocks that are not run here', () => {
  it.each(notHere)('%s: %s … (%s)', (file, words) => {
    expect(shellBlocks.filter(block => block.file === file && block.text.startsWith(words))).toHaveLength(1)
  })

  it('are all that no session runs', () => {
    const run = sessions.flatMap(blocksIn)
    expect(shellBlocks.filter(block => !run.includes(block) && !isNotHere(block)).map(nameOf)).toEqual([])
  })
})

describe('the map in README.md', () => {
  it('has every folder of src/, and no other', () => {
    const tracked = execFileSync('git', ['ls-files', 'src'], { cwd: root, encoding: 'utf8' }).trim().split('\n')
    const folders = new Set(tracked.map(name => name.split('/')[1]))
    const rows = [...textOf('README.md').matchAll(/^\| `(\w+)` \|/gm)].map(match => match[1])
    expect(rows.toSorted()).toEqual([...folders].toSorted())
  })
})

describe('configurations', () => {
  it.each(
    documents
      .flatMap(blocksOf)
      .filter(block => block.language === 'yaml')
      .map(block => [nameOf(block), block]),
  )('%s loads', (name, block) => {
    const { file, text } = block as Block
    const source = name as string
    const load = () =>
      file === 'docs/monitoring.md' ? parseMonitor(text, source) : parseConfig({ text, source, env: {} })
    expect(load).not.toThrow()
  })
})

describe.each([...documents, ...integrations])('%s', file => {
  it('links only to what is there', () => {
    const text = textOf(file).replaceAll(/^```[\s\S]*?^```$/gm, '')
    const anchorsOf = (other: string): readonly string[] =>
      [...textOf(other).matchAll(/^#+ (.+)$/gm)].map(match =>
        match[1]!
          .toLowerCase()
          .replaceAll(/[^a-z0-9 -]/g, '')
          .replaceAll(' ', '-'),
      )
    for (const [, target = ''] of text.matchAll(/\]\(([^)]+)\)/g)) {
      if (/^https:/.test(target)) continue
      const [path = '', anchor] = target.split('#')
      const other = path === '' ? file : join(dirname(file), path)
      expect(existsSync(resolve(root, other)), target).toBe(true)
      if (anchor !== undefined) expect(anchorsOf(other), target).toContain(anchor)
    }
  })
})
