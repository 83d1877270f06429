// The root's CRL: signed in the root's token, judged by OpenSSL together with the chain it is for, its number and entries only growing.
import { readFileSync, statSync } from 'node:fs'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Certificate } from '../../src/pki/certificate.ts'
import { parseCrl } from '../../src/pki/crl.ts'
import { encodePem } from '../../src/pki/pem.ts'
import { serialHex } from '../../src/pki/serial.ts'
import { code, createRoom, crlYaml, type Room } from './ceremony-bench.ts'

let room: Room
let root: Certificate
let issuing: Certificate
beforeEach(async () => {
  room = await createRoom()
  root = (await room.root()).value!
  issuing = (await room.issuing(root)).value!
})
afterEach(() => room[Symbol.dispose]())

const day = 86_400_000
const judge = (): string => {
  room.file('crl.pem', encodePem('X509 CRL', readFileSync(room.path('root-1.crl'))))
  try {
    return room.openssl(
      ...['verify', '-x509_strict', '-crl_check_all', '-CAfile', 'root-1.pem', '-CRLfile', 'crl.pem', 'issuing-1.pem'],
    )
  } catch (error) {
    return (error as { stderr: string }).stderr
  }
}
const revoking = (...serials: readonly string[]): string =>
  `${crlYaml}\nrevoked:\n${serials
    .map(serial => `  - { serial: "${serial}", at: 2026-01-01T00:00:00Z, reason: cACompromise }\n`)
    .join('')}`

describe('the CRL ceremony', () => {
  test('signs an empty list of 400 days that completes the chain for OpenSSL', async () => {
    const made = (await room.crl(root, null)).value!
    const crl = parseCrl(readFileSync(room.path('root-1.crl')))
    expect(crl.size).toBe(0)
    expect(crl.nextUpdate! - crl.thisUpdate).toBe(400 * day)
    expect(crl.crlNumber).toBe(BigInt(room.clock.now()))
    expect(made).toMatchObject({ number: crl.crlNumber, entries: 0 })
    expect(statSync(room.path('root-1.crl')).mode & 0o777).toBe(0o644)
    expect(judge()).toBe('issuing-1.pem: OK\n')
  })

  test('a revoked issuing CA is refused by OpenSSL, with its reason in the list', async () => {
    await room.crl(root, null, revoking(issuing.serialHex.toUpperCase()))
    expect(judge()).toContain('certificate revoked')
    const [entry] = [...parseCrl(readFileSync(room.path('root-1.crl'))).entries()]
    expect(serialHex(entry!.serial)).toBe(issuing.serialHex)
    expect(entry).toMatchObject({ reason: 'cACompromise', revokedAt: Date.UTC(2026, 0, 1) })
  })

  test('the number grows even when the clock does not', async () => {
    const first = (await room.crl(root, null)).value!
    room.clock.at -= 60_000
    const second = (await room.crl(root, first.der)).value!
    expect(second.number).toBe(first.number + 1n)
  })

  test('a revocation is never taken back', async () => {
    const first = (await room.crl(root, null, revoking(issuing.serialHex, '0a'))).value!
    await expect(room.crl(root, first.der, revoking('0a'))).rejects.toThrow(
      `revoked before and not in the input: ${issuing.serialHex}`,
    )
    expect(room.lastTranscript().steps.at(-1)).toMatchObject({ title: 'draft the list', result: 'failed' })
    expect(parseCrl(readFileSync(room.path('root-1.crl'))).size).toBe(2)
  })

  test('a previous list of another root, a revocation in the future and the root’s own serial are refused', async () => {
    const foreign = (await room.root(`ceremony: root\nname: root-2\nsubject: { commonName: Another }`)).value!
    const list = (
      await room.run('crl', crlYaml.replace('root-1', 'root-2'), async (deps, input) => {
        const { performCrlCeremony } = await import('../../src/server/ceremony/crl.ts')
        const output = { path: room.path('root-2.crl'), mode: 'new' } as const
        return performCrlCeremony(deps, { input, root: foreign, rootToken: room.rootToken, previous: null, output })
      })
    ).value!
    await expect(room.crl(root, list.der)).rejects.toThrow(code('ceremony_refused'))
    room.clock.at = Date.UTC(2025, 0, 1)
    await expect(room.crl(root, null, revoking(issuing.serialHex))).rejects.toThrow(/valid now/)
    room.clock.at = Date.now()
    await expect(room.crl(root, null, revoking(root.serialHex))).rejects.toThrow(/cannot revoke itself/)
    const future = revoking('0b').replace('2026-01-01', '2126-01-01')
    await expect(room.crl(root, null, future)).rejects.toThrow(/in the future/)
  })

  test('a dry run checks the key and signs nothing', async () => {
    expect((await room.crl(root, null, crlYaml, { keys: 'new', mode: 'dry-run' })).value).toBeNull()
    expect(() => statSync(room.path('root-1.crl'))).toThrow(code('ENOENT'))
    expect(room.lastTranscript().steps.at(-1)).toMatchObject({ title: 'sign the list', result: 'planned' })
  })
})
