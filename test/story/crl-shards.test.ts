// Sharded lists of a running CA, as those see them who follow the URL in a certificate: OpenSSL, Python's cryptography, curl, and the
// agent's own files; and what becomes of a certificate whose CA is given another count of shards.
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { parseCertificate } from '../../src/pki/certificate.ts'
import { parseCrl } from '../../src/pki/crl.ts'
import { parseShardName, shardOf } from '../../src/pki/crl-shards.ts'
import { encodePem, parsePem } from '../../src/pki/pem.ts'
import type { CrlAnswer } from '../../src/schema/admin-answers.ts'
import { mustRun, runProgram, type ServedCa, startServedCa } from './served-ca.ts'

interface Agent {
  readonly name: string
  readonly serial: string
  /** The one that its certificate names. */
  readonly list: string
}

let ca: ServedCa
let issuing: string
let first: Agent
let second: Agent

const enrolled = async (name: string): Promise<Agent> => {
  const directory = await ca.enrolled(name)
  const [leaf] = parsePem(readFileSync(join(directory, 'tls.crt'), 'utf8'), 'CERTIFICATE')
  const { serialHex, crlDistributionPoints } = parseCertificate(leaf!)
  writeFileSync(join(ca.directory, `${name}.pem`), encodePem('CERTIFICATE', leaf!))
  const [point] = crlDistributionPoints ?? []
  const [url] = point?.fullName ?? []
  if (url?.kind !== 'uri') throw new Error(`the certificate of ${name} names no list`)
  return { name, serial: serialHex, list: url.value }
}

const fetched = async (url: string): Promise<Uint8Array> => {
  const answer = await fetch(url)
  if (answer.status !== 200) throw new Error(`${url}: status ${answer.status}`)
  return new Uint8Array(await answer.arrayBuffer())
}

beforeAll(async () => {
  ca = await startServedCa({ env: { ...process.env, AGENTCA_CRL_SHARDS: '4' } })
  issuing = encodePem('CERTIFICATE', await fetched(`${ca.urls.status}/aia/issuing-1.cer`))
  writeFileSync(join(ca.directory, 'issuing.pem'), issuing)
  first = await enrolled('first')
  second = await enrolled('second')
  for (let i = 0; second.list === first.list; i++) second = await enrolled(`second-${i}`)
}, 180_000)
afterAll(async () => {
  await ca?.[Symbol.asyncDispose]()
})

/** What OpenSSL says of a leaf with one list and no other. */
const opensslSays = async (agent: Agent, url: string): Promise<string> => {
  writeFileSync(join(ca.directory, 'list.pem'), encodePem('X509 CRL', await fetched(url)))
  const files = ['-CAfile', 'issuing.pem', '-CRLfile', 'list.pem', `${agent.name}.pem`]
  const args = ['verify', '-crl_check', '-extended_crl', '-partial_chain', ...files]
  const { code, out, err } = await runProgram('openssl', args, { cwd: ca.directory })
  return code === 0 ? out.trim() : err
}

const isListed = async (url: string, { serial }: Agent): Promise<boolean> =>
  [...parseCrl(await fetched(url)).entries()].some(entry => Buffer.from(entry.serial).toString('hex') === serial)

it('each certificate is judged by the list it names, and by no other of the set', async () => {
  expect(await opensslSays(first, first.list)).toBe('first.pem: OK')
  expect(await opensslSays(first, second.list)).toMatch(/CRL scope|unable to get certificate CRL/i)
  expect(await opensslSays(first, `${ca.urls.status}/crl/issuing-1.crl`)).toBe('first.pem: OK')
  await mustRun('openssl', ['crl', '-in', 'list.pem', '-noout', '-CAfile', 'issuing.pem'], { cwd: ca.directory })
})

it('a revocation is on that list and on the complete one, and OpenSSL refuses by either', async () => {
  const complete = `${ca.urls.status}/crl/issuing-1.crl`
  const args = ['revoke', '--serial', first.serial, '--reason', 'keyCompromise', '--yes']
  expect(await ca.agentca(...args)).toMatchObject({ code: 0 })
  await expect
    .poll(async () => [await isListed(first.list, first), await isListed(complete, first)])
    .toEqual([true, true])
  expect(await opensslSays(first, first.list)).toMatch(/certificate revoked/)
  expect(await opensslSays(first, complete)).toMatch(/certificate revoked/)
  expect(await opensslSays(second, second.list)).toBe(`${second.name}.pem: OK`)
  expect(await isListed(second.list, first)).toBe(false)
})

it('Python reads the critical scope, equal to what the certificate names', async () => {
  writeFileSync(join(ca.directory, 'list.der'), await fetched(second.list))
  const program = `
import sys
try:
    from cryptography import x509
except ImportError:
    sys.exit(77)
crl = x509.load_der_x509_crl(open("list.der", "rb").read())
leaf = x509.load_pem_x509_certificate(open(sys.argv[1], "rb").read())
ca = x509.load_pem_x509_certificate(open("issuing.pem", "rb").read())
scope = crl.extensions.get_extension_for_class(x509.IssuingDistributionPoint)
points = leaf.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
assert crl.is_signature_valid(ca.public_key())
assert scope.critical and not scope.value.indirect_crl and scope.value.only_some_reasons is None
assert [name for point in points for name in point.full_name] == scope.value.full_name
`
  const { code, err } = await runProgram('python3', ['-c', program, `${second.name}.pem`], { cwd: ca.directory })
  // 77: this machine's Python has no cryptography package.
  expect([0, 77], err).toContain(code)
})

it('it is served with a tag, unchanged ones as 304, and lies in a file', async () => {
  const answer = await fetch(second.list)
  const tag = answer.headers.get('etag')!
  const bytes = Buffer.from(await answer.arrayBuffer())
  expect(answer.headers.get('content-type')).toBe('application/pkix-crl')
  expect((await fetch(second.list, { headers: { 'if-none-match': tag } })).status).toBe(304)
  expect((await fetch(second.list, { method: 'HEAD' })).headers.get('content-length')).toBe(String(bytes.length))
  expect(readFileSync(join(ca.home, 'status', new URL(second.list).pathname))).toEqual(bytes)
  for (const path of ['5-of-4', '0-of-4', '1-of-8', 'bundle', '../issuing-1'])
    expect((await fetch(`${ca.urls.status}/crl/issuing-1/${path}.crl`)).status).toBe(
      path === '../issuing-1' ? 200 : 404,
    )
})

it('an agent whose certificate names a shard has the complete lists of the whole chain in its directory', async () => {
  const lists = parsePem(readFileSync(join(ca.directory, second.name, 'crl.pem'), 'utf8'), 'X509 CRL').map(parseCrl)
  expect(lists.map(({ distributionPoint }) => distributionPoint)).toEqual([null, null])
})

it('the operator sees each list, complete ones first', async () => {
  const rows = await ca.agentcaJson<readonly CrlAnswer[]>('crl', 'status')
  expect(rows.map(({ issuer, shard }) => [issuer, shard])).toEqual([
    ['root-1', null],
    ['issuing-1', null],
    ...[1, 2, 3, 4].map(number => ['issuing-1', `${number}-of-4`]),
  ])
  expect(rows.find(({ url }) => url === second.list)?.shard).toBe(
    new URL(second.list).pathname.split('/').at(-1)!.replace('.crl', ''),
  )
})

it('with another count of shards older certificates keep their lists, kept new, and newer ones name others', async () => {
  await ca.stop()
  await ca.start({ AGENTCA_CRL_SHARDS: '2' })
  const third = await enrolled('third')
  const name = new URL(third.list).pathname.split('/').at(-1)!.replace('.crl', '')
  expect(parseShardName(name)).toEqual(shardOf(Buffer.from(third.serial, 'hex'), 2))
  const args = ['revoke', '--serial', second.serial, '--reason', 'superseded', '--yes']
  expect(await ca.agentca(...args)).toMatchObject({ code: 0 })
  await expect.poll(() => isListed(second.list, second)).toBe(true)
  expect(await opensslSays(second, second.list)).toMatch(/certificate revoked/)
  expect(await opensslSays(third, third.list)).toBe('third.pem: OK')

  await ca.stop()
  await ca.start({ AGENTCA_CRL_SHARDS: '1' })
  const fourth = await enrolled('fourth')
  expect(fourth.list).toBe(`${ca.urls.status}/crl/issuing-1.crl`)
  expect(await opensslSays(third, third.list)).toBe('third.pem: OK')
})

it('a count that is no power of two is refused, with what it may be', async () => {
  const { code, err } = await runProgram(join(import.meta.dirname, '../../bin/agentca'), ['serve'], {
    cwd: ca.directory,
    env: { ...ca.env, AGENTCA_CRL_SHARDS: '3' },
  })
  expect([code, err]).toEqual([2, expect.stringMatching(/crl\.shards: expected a power of two from 1 to 256/)])
})
