// The file of lists for servers that read such files: only verified lists get into it, never older ones than before, over restarts too.
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { parseCertificates } from '../../../src/agent/chain.ts'
import type { Credential } from '../../../src/agent/credential.ts'
import { agentIdentity } from '../../../src/agent/identity.ts'
import { silentLog } from '../../../src/base/log.ts'
import { type Crl, parseCrl } from '../../../src/pki/crl.ts'
import { encodePem, parsePem } from '../../../src/pki/pem.ts'
import { type CrlFile, keepCrlFile } from '../../../src/verifier/sidecar/crl-files.ts'
import { openCrlFloors } from '../../../src/verifier/sidecar/crl-floors.ts'
import { type CaServer, createCaServer } from '../../agent/ca-server.ts'
import { createTiming } from '../../agent/timing.ts'

let ca: CaServer
let credential: Credential
beforeAll(async () => {
  ca = await createCaServer(['issuing-2'])
  const options = { url: ca.url, caFile: ca.caFile, tokenFile: await ca.tokenFile('server') }
  const id = await agentIdentity(options, { env: {}, timing: createTiming() })
  credential = id.current()
  await id[Symbol.asyncDispose]()
})
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

const directoryFor = (name: string): string => {
  mkdirSync(ca.scratch(name), { recursive: true })
  return ca.scratch(name)
}
const nextList = async (): Promise<string> => encodePem('X509 CRL', (await ca.front.ca.publishCrl()).der)
const nextListOfSibling = async (): Promise<string> => {
  const sibling = ca.front.deps.issuers.online().find(({ name }) => name === 'issuing-2')!
  return encodePem('X509 CRL', (await ca.front.ca.publishCrlOf(sibling)).der)
}
const patience = { timeout: 90_000, interval: 5 }
/** The last octet of the signature is another. */
const tampered = (pem: string): string => {
  const der = Buffer.from(pem.replaceAll(/-----.*-----|\n/g, ''), 'base64')
  der[der.length - 1]! ^= 1
  return encodePem('X509 CRL', der)
}

interface Kept extends AsyncDisposable {
  readonly file: CrlFile
  readonly changes: () => number
  readonly warnings: string[]
  /** CAs whose lists were told to be left out. */
  readonly leftOut: string[]
  readonly looks: () => number
}

/** Looks as often as it can. */
const keep = async (path: string): Promise<Kept> => {
  let [changes, looks] = [0, 0]
  const warnings: string[] = []
  const leftOut: string[] = []
  const warn = (fields: Readonly<Record<string, unknown>>): void =>
    void (fields.issuer === undefined ? warnings.push(String(fields.reason)) : leftOut.push(String(fields.issuer)))
  const file = await keepCrlFile({
    identity: { current: () => credential },
    path,
    timing: {
      clock: { now: Date.now, monotonic: () => performance.now() },
      random: () => 0,
      idle: (_, signal) => {
        looks++
        return sleep(5, undefined, { signal })
      },
    },
    log: { ...silentLog, warn },
    changed: () => {
      changes++
    },
  })
  return {
    file,
    changes: () => changes,
    looks: () => looks,
    warnings,
    leftOut,
    [Symbol.asyncDispose]: () => file[Symbol.asyncDispose](),
  }
}
const afterTwoLooks = async (kept: Kept): Promise<void> => {
  const before = kept.looks()
  while (kept.looks() < before + 2) await sleep(5)
}

describe('the file of revocation lists', () => {
  it('has the newest list that was published, and says so once for each', async () => {
    const path = join(directoryFor('newest'), 'crls.pem')
    const lists = [await nextList(), await nextList()]
    ca.publish(async () => lists[0]!)
    await using kept = await keep(path)
    await kept.file.ready()
    expect(readFileSync(path, 'utf8')).toBe(lists[0])
    await afterTwoLooks(kept)
    expect(kept.changes()).toBe(1)
    ca.publish(async () => lists[1]!)
    while (kept.changes() < 2) await sleep(5)
    expect(readFileSync(path, 'utf8')).toBe(lists[1])
    await afterTwoLooks(kept)
    expect([kept.changes(), kept.warnings]).toEqual([2, []])
  })

  it('never goes back to an older list, nor takes one that is not signed, over a restart too', async () => {
    const path = join(directoryFor('never-back'), 'crls.pem')
    const [older, newer] = [await nextList(), await nextList()]
    ca.publish(async () => newer)
    const first = await keep(path)
    await first.file.ready()
    ca.publish(async () => older)
    while (first.warnings.length === 0) await sleep(5)
    expect(first.warnings[0]).toContain('older than those in place')
    await first[Symbol.asyncDispose]()

    await using second = await keep(path)
    while (second.warnings.length === 0) await sleep(5)
    expect(second.warnings[0]).toContain('older than those in place')
    // Whoever reads the file may have missed what came before this start.
    expect([readFileSync(path, 'utf8'), second.changes()]).toEqual([newer, 1])
    const newest = await nextList()
    ca.publish(async () => tampered(newest))
    await afterTwoLooks(second)
    expect(readFileSync(path, 'utf8')).toBe(newer)
    ca.publish(async () => newest)
    while (second.changes() < 2) await sleep(5)
    expect(readFileSync(path, 'utf8')).toBe(newest)
  })

  it('has no list that no known CA signed, counts no number of it, and says whose was left out', async () => {
    const path = join(directoryFor('forged'), 'crls.pem')
    const [older, newer] = [await nextList(), await nextList()]
    // As a CA that is not in the chain would publish it, with the greatest number there is: nobody signed it.
    const forged = (pem: string, raised: boolean): string => {
      const der = Buffer.from(pem.replaceAll(/-----.*-----|\n/g, ''), 'base64')
      const { issuerName, crlNumber } = parseCrl(new Uint8Array(der))
      der[der.indexOf(issuerName) + issuerName.length - 1]! ^= 1
      const hex = crlNumber!.toString(16)
      const number = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex')
      if (raised) der[der.lastIndexOf(number)] = 0x7f
      return encodePem('X509 CRL', der)
    }
    ca.publish(async () => older + forged(older, true))
    const first = await keep(path)
    await first.file.ready()
    expect(readFileSync(path, 'utf8')).toBe(older)
    expect(first.leftOut).toEqual(['CN=agentca test issuing 0'])
    await first[Symbol.asyncDispose]()
    await using second = await keep(path)
    ca.publish(async () => newer + forged(newer, false))
    await vi.waitFor(() => expect(readFileSync(path, 'utf8')).toBe(newer), patience)
    await afterTwoLooks(second)
    expect([second.warnings, second.leftOut]).toEqual([[], ['CN=agentca test issuing 0']])
  })

  it('has the list of another issuing CA below the same root, also while nobody says any more whose key signed it', async () => {
    const path = join(directoryFor('sibling'), 'crls.pem')
    const lists = [await nextList(), await nextList()]
    const siblings = [await nextListOfSibling(), await nextListOfSibling()]
    ca.publish(async () => lists[0]! + siblings[0]!)
    await using kept = await keep(path)
    await kept.file.ready()
    expect(readFileSync(path, 'utf8')).toBe(lists[0]! + siblings[0]!)
    ca.publishCertificates(() => '')
    ca.publish(async () => lists[1]! + siblings[1]!)
    await vi.waitFor(() => expect(readFileSync(path, 'utf8')).toBe(lists[1]! + siblings[1]!), patience)
    expect([kept.warnings, kept.leftOut]).toEqual([[], []])
  })

  it('knows the number of a list that was left out, and of a CA that is in the chain no more', async () => {
    const path = join(directoryFor('left-out'), 'crls.pem')
    const [older, newer] = [await nextList(), await nextList()]
    const floors = await openCrlFloors(path)
    const [old, latest] = [older, newer].map(pem => parseCrl(parsePem(pem, 'X509 CRL')[0]!)) as [Crl, Crl]
    await floors.check([latest], parseCertificates(credential.chainPem))()
    await floors.check([], [])()
    const again = await openCrlFloors(path)
    for (const each of [floors, again]) {
      expect(() => each.check([old], [])).toThrow(/older than those in place/)
      expect(() => each.check([latest], [])).not.toThrow()
      expect(() => each.check([parseCrl(parsePem(tampered(newer), 'X509 CRL')[0]!)], [])).toThrow(/not by the CA/)
    }
    writeFileSync(`${path}.numbers`, 'rubbish')
    await expect(openCrlFloors(path)).rejects.toMatchObject({ code: 'file_malformed' })
  })

  it('is refused at the start where its directory is not there', async () => {
    const path = join(ca.scratch('nowhere'), 'crls.pem')
    await expect(keep(path)).rejects.toMatchObject({
      code: 'file_unreadable',
      hint: expect.stringContaining('mkdir -p'),
    })
  })
})
