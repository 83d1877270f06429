// The audit log at the command line: what verify finds, on a server and in an export, with and without what was kept elsewhere.
import { generateKeyPairSync } from 'node:crypto'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { createLeaf, emptyHead, extendHead, hashLeaf } from '../../src/audit/leaf.ts'
import { toBase64, toHex } from '../../src/base/bytes.ts'
import type { LeafAnswer } from '../../src/schema/admin-answers.ts'
import { runCommand } from './command.ts'
import { checkpoint, leaves, logKeyPem } from './fixtures.ts'
import { startServer, type TestServer } from './server.ts'

let server: TestServer
beforeAll(async () => {
  server = await startServer()
  const write = (name: string, content: string): void => writeFileSync(join(server.directory, name), content)
  write('log.pem', logKeyPem)
  const stranger = generateKeyPairSync('ec', { namedCurve: 'P-256' }).publicKey
  write('stranger.pem', stranger.export({ type: 'spki', format: 'pem' }) as string)
  write('kept', checkpoint(10).note + checkpoint(25).note)
})
afterAll(() => server?.[Symbol.asyncDispose]())
beforeEach(() => server.reset())

const run = (line: string) => runCommand(line.split(' '), { env: server.env, cwd: server.directory })

/** The server shows this log, and no checkpoint of its own unless told. */
const show = (log: readonly LeafAnswer[], sizes: readonly number[] = []): void => {
  server.answer('auditLeaves', ({ query }) => ({
    items: log.filter(each => each.index >= query.from).slice(0, query.limit),
    next: null,
  }))
  server.answer('auditCheckpoints', () => ({ items: sizes.map(checkpoint), next: null }))
}

/** Another fact in one leaf, and every head after it made anew: what an intruder with write access can do. */
const rewrite = (log: readonly LeafAnswer[], at: number): readonly LeafAnswer[] => {
  const made = createLeaf('owner_created', { at: Date.parse(log[at]?.at as string), who: 'mallory' }, 'owner:x', {})
  const changed = log.with(at, { ...(log[at] as LeafAnswer), bytes: toBase64(made.bytes) })
  let head = emptyHead
  return changed.map(each => {
    head = extendHead(head, hashLeaf(new Uint8Array(Buffer.from(each.bytes as string, 'base64'))))
    return { ...each, head: toHex(head) }
  })
}

const findings = async (line: string): Promise<{ code: number; found: readonly (readonly [string, number])[] }> => {
  const { code, out } = await run(`${line} -o json`)
  const verdict = JSON.parse(out) as { findings: readonly { kind: string; index: number }[] }
  return { code, found: verdict.findings.map(({ kind, index }) => [kind, index]) }
}

const verify = 'audit verify --log-key log.pem --checkpoint kept'

describe('agentca audit verify', () => {
  it('finds the whole log whole', async () => {
    const { code, out, err } = await run(verify)
    expect([code, out, err]).toEqual([0, 'whole: 25 leaves, 25 of them under 2 signed checkpoints\n', ''])
  })

  it('says that a key from the log itself protects from nobody who runs it', async () => {
    const { code, err } = await run('audit verify')
    expect([code, err]).toEqual([0, expect.stringContaining('the log key came from the log itself')])
  })

  it('warns, exit code 10, when only the chain could be checked', async () => {
    show(leaves)
    const { code, err } = await run('audit verify')
    expect([code, err]).toEqual([10, expect.stringContaining('only the chain was checked')])
  })

  it.each<[string, () => void, readonly (readonly [string, number])[]]>([
    [
      'a changed leaf',
      () => show(leaves.with(6, { ...(leaves[6] as LeafAnswer), bytes: leaves[7]?.bytes as string })),
      [['leaf_changed', 6]],
    ],
    ['a removed leaf', () => show(leaves.toSpliced(4, 1)), [['leaf_missing', 4]]],
    [
      'a search column that lies',
      () => show(leaves.with(5, { ...(leaves[5] as LeafAnswer), event: 'core_stopped' })),
      [['leaf_index_differs', 5]],
    ],
  ])('names %s', async (_, prepare, expected) => {
    prepare()
    const { code, found } = await findings(verify)
    expect(code).toBe(9)
    for (const finding of expected) expect(found).toContainEqual(finding)
  })

  it('finds a log that was rewritten and chained anew, by a checkpoint kept elsewhere alone', async () => {
    show(rewrite(leaves, 12))
    expect((await findings('audit verify')).found).toEqual([])
    expect(await findings(verify)).toEqual({ code: 9, found: [['log_rewritten', 10]] })
  })

  it('finds a rollback', async () => {
    show(leaves.slice(0, 20))
    expect(await findings(verify)).toEqual({ code: 9, found: [['log_rolled_back', 20]] })
  })

  it('believes no checkpoint by another key', async () => {
    const { code, found } = await findings('audit verify --log-key stranger.pem --checkpoint kept')
    expect([code, new Set(found.map(([kind]) => kind))]).toEqual([9, new Set(['checkpoint_invalid'])])
  })

  it('does not verify leaves whose bytes cannot be read', async () => {
    show(leaves.with(3, { ...(leaves[3] as LeafAnswer), bytes: '***' }))
    const { code, err } = await run(verify)
    expect([code, err]).toEqual([9, expect.stringContaining('leaf 3 has no readable bytes')])
  })

  it('needs notes in a file of checkpoints', async () => {
    expect((await run('audit verify --log-key log.pem --checkpoint log.pem')).code).toBe(2)
  })
})

describe('an export', () => {
  it('verifies without a server, with the exact bytes', async () => {
    expect(await run('audit export --file log.jsonl')).toMatchObject({ code: 0, err: '25 leaves, 2 checkpoints\n' })
    const lines = readFileSync(join(server.directory, 'log.jsonl'), 'utf8').trim().split('\n')
    expect(lines.map(line => (JSON.parse(line) as LeafAnswer).bytes).filter(Boolean)).toEqual(
      leaves.map(each => each.bytes),
    )
    const nobody = { env: { AGENTCA_HOME: '/nowhere' }, cwd: server.directory }
    const whole = await runCommand([...`${verify} --file log.jsonl`.split(' ')], nobody)
    expect([whole.code, whole.out]).toEqual([0, expect.stringContaining('whole: 25 leaves')])

    writeFileSync(join(server.directory, 'cut.jsonl'), `${lines.toSpliced(8, 1).join('\n')}\n`)
    const cut = await runCommand([...`${verify} --file cut.jsonl -o json`.split(' ')], nobody)
    expect([cut.code, JSON.parse(cut.out)]).toEqual([
      9,
      expect.objectContaining({
        findings: expect.arrayContaining([expect.objectContaining({ kind: 'leaf_missing', index: 6 })]),
      }),
    ])
  })

  it('that is no export does not verify', async () => {
    const { code, err } = await run('audit verify --file log.pem')
    expect([code, err]).toEqual([9, expect.stringContaining('line 1 is not a line of an export')])
  })

  it('that does not exist is a wrong argument', async () => {
    const { code, err } = await run('audit verify --file nothing.jsonl')
    expect([code, err]).toEqual([2, expect.stringContaining('there is no such file')])
  })
})

describe('the tail', () => {
  it('has the newest last', async () => {
    expect((await run('audit tail -n 3 -o name')).out).toBe('22\n23\n24\n')
  })

  it('is searched by subject and event', async () => {
    await run('audit tail --subject agent:billing --event revoked')
    expect(server.calls).toMatchObject([{ query: { subject: 'agent:billing', event: 'revoked', limit: 20 } }])
    await run('audit tail --agent billing')
    expect(server.calls[1]).toMatchObject({ query: { subject: 'agent:billing', limit: 20 } })
    expect((await run('audit tail --agent billing --subject owner:finance')).code).toBe(2)
  })
})

it('a checkpoint goes to standard output as it is, to be kept elsewhere', async () => {
  const { note } = checkpoint(25)
  server.answer('auditCheckpoint', () => ({ ...checkpoint(25), note }))
  expect((await run('audit checkpoint')).out).toBe(note)
})
