// Checkpoints over the real parts: a log key in SoftHSM2, a signer process, the SQLite ledger, a file; OpenSSL checks a signature.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { originOf, parseNote, verifyNote } from '../../src/audit/checkpoint.ts'
import { type CheckpointerDeps, createCheckpointer } from '../../src/audit/checkpointer.ts'
import { ownerCreated } from '../../src/audit/events.ts'
import { createSampler } from '../../src/audit/sampler.ts'
import { verifyLog } from '../../src/audit/verify-log.ts'
import { type Clock, systemClock } from '../../src/base/clock.ts'
import { silentLog } from '../../src/base/log.ts'
import { silentMetrics } from '../../src/base/metrics.ts'
import { encodePem } from '../../src/pki/pem.ts'
import type { Ledger } from '../../src/store/ports.ts'
import {
  createTokenFixture,
  eventually,
  type RunningSigner,
  signerConfig,
  startSigner,
  type TokenFixture,
} from '../signer/harness.ts'
import { makeLedger } from '../store/make-ledger.ts'

let fixture: TokenFixture
let signer: RunningSigner
beforeAll(async () => {
  fixture = await createTokenFixture()
  signer = startSigner(signerConfig(fixture))
  await signer.supervisor.ready(15_000)
})
afterAll(async () => {
  await signer?.[Symbol.asyncDispose]()
  fixture?.remove()
})

let logs = 0
/** A log of its own: origin, ledger, directory for its file. */
const newLog = async () => {
  const ledger = makeLedger()
  const logKey = { origin: originOf(`ca-${++logs}`), spki: fixture.logSpki }
  const directory = mkdtempSync(join(fixture.directory, 'checkpoints-'))
  const state = { signatures: 0, dead: false }
  const grow = (name: string) => ledger.audit.append([ownerCreated({ at: Date.now(), who: 'operator:test' }, name)])
  await grow('first')
  const open = (changes: Partial<CheckpointerDeps> = {}) => {
    const checkpointer = createCheckpointer({
      clock: systemClock,
      log: silentLog,
      metrics: silentMetrics,
      audit: ledger.audit,
      sampler: createSampler(systemClock),
      logKey,
      sign: async tbs => {
        if (state.dead) throw new Error('no signer')
        state.signatures++
        return signer.client.sign({ purpose: 'checkpoint', key: 'log-1', tbs, priority: 'status', deadlineMs: 10_000 })
      },
      everySeconds: 3600,
      file: join(directory, 'checkpoints'),
      ...changes,
    })
    return { ...checkpointer, [Symbol.asyncDispose]: () => checkpointer.close() }
  }
  const file = () => readFileSync(join(directory, 'checkpoints'), 'utf8')
  return { ledger, logKey, directory, path: join(directory, 'checkpoints'), state, grow, open, file }
}

const notesOf = (text: string): readonly string[] => text.split(/(?<=\n\u2014 [^\n]+\n)\n/)

const verified = (ledger: Ledger, logKey: CheckpointerDeps['logKey'], checkpoints: readonly string[]) =>
  verifyLog({ leaves: ledger.audit.read(0, 1000), checkpoints, log: logKey })

describe('a checkpoint', () => {
  it('is signed by the log key, recorded, kept and appended to the file', async () => {
    const log = await newLog()
    await using checkpointer = log.open()
    const first = await checkpointer.now()
    await log.grow('second')
    const second = await checkpointer.now()
    expect([first.size, second.size]).toEqual([1, 2])
    expect(verifyNote(second.note, log.logKey)).toMatchObject({ size: 2, head: log.ledger.audit.head().head })
    expect(checkpointer.latest()).toEqual(second)
    expect(log.ledger.audit.checkpoints({ limit: 1 })).toEqual([second])
    const notes = notesOf(log.file())
    expect(notes.slice(-2)).toEqual([first.note, second.note])
    expect(await verified(log.ledger, log.logKey, notes)).toMatchObject({ findings: [], size: 2 })

    const { signedText, signature } = parseNote(second.note)
    const at = (name: string, content: string | Uint8Array): string => {
      writeFileSync(join(log.directory, name), content)
      return join(log.directory, name)
    }
    const args = ['-verify', at('log.pem', encodePem('PUBLIC KEY', fixture.logSpki))]
    const judged = execFileSync('openssl', [
      'dgst',
      '-sha256',
      ...args,
      '-signature',
      at('sig', signature),
      at('text', signedText),
    ])
    expect(judged.toString()).toBe('Verified OK\n')
  })

  it('is made by itself each time; the ledger gets those of a log that grew, and one an hour when it did not', async () => {
    const log = await newLog()
    const clock: Clock & { offset: number } = {
      offset: 0,
      now: () => Date.now() + clock.offset,
      monotonic: () => performance.now(),
    }
    const recorded = () => log.ledger.audit.checkpoints({ limit: 100 })
    await using checkpointer = log.open({ clock, everySeconds: 0.02 })
    await eventually('five of them', () => log.state.signatures >= 5)
    expect(recorded().map(({ size }) => size)).toEqual([1])
    clock.offset = 5000
    await eventually('a later one', () => (checkpointer.latest()?.at ?? 0) > recorded()[0]!.at)
    expect(verifyNote(checkpointer.latest()!.note, log.logKey)).toMatchObject({ size: 1 })
    await log.grow('second')
    await eventually('the second', () => checkpointer.latest()?.size === 2)
    expect(recorded().map(({ size }) => size)).toEqual([2, 1])
    clock.offset = 3_700_000
    await eventually('one for the hour', () => recorded().length === 3)
    expect(recorded()[0]).toMatchObject({ size: 2 })
    await eventually('the file has them too', () => notesOf(log.file()).length === 3)
  })

  it('covers the summary of refusals that were not written one by one', async () => {
    const log = await newLog()
    const sampler = createSampler(systemClock)
    for (let i = 0; i < 50; i++) sampler.admit('token_unknown', '192.0.2.1')
    let fails = true
    const append: Ledger['audit']['append'] = leaves => {
      if (fails) return Promise.reject(new Error('disk full'))
      return log.ledger.audit.append(leaves)
    }
    await using checkpointer = log.open({ sampler, audit: { ...log.ledger.audit, append } })
    await expect(checkpointer.now()).rejects.toThrow('disk full')
    fails = false
    expect(await checkpointer.now()).toMatchObject({ size: 2 })
    expect(await checkpointer.now()).toMatchObject({ size: 2 })
    const [leaf] = log.ledger.audit.tail({ event: 'refusals_summary', limit: 1 })
    expect(JSON.parse(Buffer.from(leaf!.bytes).toString())).toMatchObject({ dropped: 45 })
  })

  it('is tried again while the signer is dead', async () => {
    const log = await newLog()
    log.state.dead = true
    await using checkpointer = log.open()
    await expect(checkpointer.now()).rejects.toThrow('no signer')
    expect(checkpointer.latest()).toBeNull()
    log.state.dead = false
    await eventually('a checkpoint', () => checkpointer.latest() !== null)
  })
})

describe('a log that does not continue what was signed', () => {
  it('gets no checkpoint when it is shorter than the last one in the file', async () => {
    const log = await newLog()
    {
      await using checkpointer = log.open()
      await log.grow('second')
      await checkpointer.now()
    }
    const before = log.file()
    const restored = await newLog()
    await using checkpointer = restored.open({ logKey: log.logKey, file: log.path })
    await expect(checkpointer.now()).rejects.toMatchObject({ code: 'conflict' })
    await restored.grow('another second')
    await restored.grow('third')
    await expect(checkpointer.now()).rejects.toMatchObject({ code: 'conflict' })
    expect(restored.state.signatures).toBe(0)
    expect(log.file()).toBe(before)
  })

  it('gets none when the ledger was changed below its last checkpoint', async () => {
    const log = await newLog()
    const { checkpoints } = log.ledger.audit
    await using checkpointer = log.open({ file: null })
    await checkpointer.now()
    await checkpointer.close()
    const signed = log.state.signatures
    await log.grow('second')
    const audit: CheckpointerDeps['audit'] = {
      ...log.ledger.audit,
      checkpoints: filter => checkpoints(filter).map(each => ({ ...each, head: each.head.map(byte => byte ^ 1) })),
    }
    await using again = log.open({ file: null, audit })
    await expect(again.now()).rejects.toMatchObject({ code: 'conflict' })
    expect(log.state.signatures).toBe(signed)
  })
})

describe('the file', () => {
  it('goes on after a restart, and loses the note that a power cut tore', async () => {
    const log = await newLog()
    {
      await using checkpointer = log.open()
      await checkpointer.now()
    }
    const whole = log.file()
    writeFileSync(log.path, `${whole}\n${whole.slice(0, 40)}`)
    await log.grow('second')
    await using checkpointer = log.open()
    expect(checkpointer.latest()).toMatchObject({ size: 1 })
    const { note } = await checkpointer.now()
    expect(log.file().startsWith(`${whole}\n`)).toBe(true)
    expect(notesOf(log.file()).at(-1)).toBe(note)
    for (const each of notesOf(log.file())) verifyNote(each, log.logKey)
  })

  it('is left alone when it holds something else', async () => {
    const log = await newLog()
    writeFileSync(log.path, 'a diary\n')
    await using checkpointer = log.open()
    await expect(checkpointer.now()).rejects.toMatchObject({ code: 'conflict' })
    expect(log.file()).toBe('a diary\n')
    // The ledger and the listeners have it all the same.
    expect(checkpointer.latest()).toMatchObject({ size: 1 })
  })

  it('is read from its end, however long it is', async () => {
    const log = await newLog()
    await using checkpointer = log.open()
    const { note } = await checkpointer.now()
    await checkpointer.close()
    writeFileSync(log.path, Array.from({ length: 500 }, () => note).join('\n'))
    await log.grow('second')
    await using again = log.open()
    const last = await again.now()
    expect(notesOf(log.file()).length).toBeGreaterThan(500)
    expect(log.file().endsWith(`${note}\n${last.note}`)).toBe(true)
  })
})
