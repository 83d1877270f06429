// The `acme-client` package of npm, unchanged: by its steps, not by its `auto`, so that what the server says is seen.
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { Agent } from 'node:https'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import acme from 'acme-client'
import { expect } from 'vitest'
import { type Listening, listening } from '../../acme/validation/probe-world.ts'
import { until } from '../../story/until.ts'
import { compat } from '../compat.ts'
import type { Subject } from '../subject.ts'
import { acmeWorld, leafIn, probedName, probingProfile } from './world.ts'

const acmeClient: Subject = {
  name: 'acme-client',
  programs: ['node'],
  version: () => {
    const file = createRequire(import.meta.url).resolve('acme-client/package.json')
    return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version
  },
  from: 'npm: acme-client',
}

type Eab = { readonly kid: string; readonly hmacKey: string }

const clientOf = async ({ kid, hmacKey }: Eab, accountKey?: Buffer) => {
  const { directoryUrl, roots } = await acmeWorld()
  acme.axios.defaults.httpsAgent = new Agent({ ca: roots })
  return new acme.Client({
    directoryUrl,
    accountKey: accountKey ?? (await acme.crypto.createPrivateEcdsaKey()),
    externalAccountBinding: { kid, hmacKey },
  })
}

/** The steps of RFC 8555 §7.1, in order. @returns files of the chain and its key */
const ordered = async (client: acme.Client, name: string, folder: string) => {
  const order = await client.createOrder({ identifiers: [{ type: 'dns', value: name }] })
  const [key, csr] = await acme.crypto.createCsr({ altNames: [name] })
  const finalized = await client.finalizeOrder(order, csr)
  const certificate = await client.getCertificate(finalized)
  const files = { certificate: join(folder, 'chain.pem'), key: join(folder, 'key.pem') }
  writeFileSync(files.certificate, certificate)
  writeFileSync(files.key, key)
  return { files, certificate }
}

const agentOf = async (agent: string, ...args: readonly string[]) => {
  const world = await acmeWorld()
  const binding = await world.binding(agent, ...args)
  return { world, binding, folder: await world.folder(agent), name: `${agent}.agent.agentca.local` }
}

compat(acmeClient, 'gets a certificate with EAB only, which makes its holder an agent at `agentVerifier`', async () => {
  const { world, binding, folder } = await agentOf('library', '--dns', 'library.internal')
  const client = await clientOf(binding)
  await client.createAccount({ termsOfServiceAgreed: true, contact: ['mailto:finance@example.org'] })
  const { files } = await ordered(client, 'library.internal', folder)
  expect(leafIn(files.certificate).dnsNames).toEqual(['library.internal'])
  expect(await world.call(files)).toMatch(/^library [0-9a-f]{32}$/)
})

compat(
  acmeClient,
  'renews for the same instance, changes its account key, revokes, and deactivates the account',
  async () => {
    const { world, binding, folder, name } = await agentOf('renewing')
    const client = await clientOf(binding)
    await client.createAccount({ termsOfServiceAgreed: true })
    const first = await ordered(client, name, folder)
    const before = leafIn(first.files.certificate)
    await client.updateAccountKey(await acme.crypto.createPrivateRsaKey(2048))
    const second = await ordered(client, name, folder)
    const after = leafIn(second.files.certificate)
    expect(after.serialHex).not.toBe(before.serialHex)
    expect(after.spiffeId).toBe(before.spiffeId)
    expect(await world.call(second.files)).toMatch(/^renewing /)
    await client.revokeCertificate(second.certificate, { reason: 4 })
    await until('the verifier refuses it', async () => (await world.call(second.files)) === '403')
    await client.updateAccount({ status: 'deactivated' } as never)
    await expect(client.createOrder({ identifiers: [{ type: 'dns', value: name }] })).rejects.toThrow(
      /deactivated|ended/i,
    )
  },
)

compat(acmeClient, 'is refused with a wrong or a used EAB', async () => {
  const { binding } = await agentOf('mistaken')
  const account = { termsOfServiceAgreed: true }
  const wrong = await clientOf({ ...binding, hmacKey: Buffer.alloc(32, 7).toString('base64url') })
  await expect(wrong.createAccount(account)).rejects.toThrow(/external account binding|MAC/i)
  await (await clientOf(binding)).createAccount(account)
  await expect((await clientOf(binding)).createAccount(account)).rejects.toThrow(/used/i)
})

compat(acmeClient, 'proves a name by http-01 where the profile lets the CA probe', async () => {
  const world = await acmeWorld()
  const folder = await world.folder('acme-client-probed')
  await world.agentca('agent', 'create', 'library-probed', '--owner', 'finance', '--profile', probingProfile)
  const client = await clientOf(await world.agentca('acme', 'eab', 'create', '--agent', 'library-probed'))
  await client.createAccount({ termsOfServiceAgreed: true })
  const answers = new Map<string, string>()
  const server = createServer((request, response) => response.end(answers.get(request.url ?? '') ?? ''))
  await using responder: Listening = await listening(server, '127.0.0.1', world.ports.http)
  expect(responder.port).toBe(world.ports.http)
  const order = await client.createOrder({ identifiers: [{ type: 'dns', value: probedName }] })
  for (const authorization of await client.getAuthorizations(order)) {
    const challenge = authorization.challenges.find(({ type }) => type === 'http-01')!
    const answer = await client.getChallengeKeyAuthorization(challenge)
    answers.set(`/.well-known/acme-challenge/${challenge.token}`, answer)
    await client.completeChallenge(challenge)
    await client.waitForValidStatus(challenge)
  }
  const [key, csr] = await acme.crypto.createCsr({ altNames: [probedName] })
  const certificate = await client.getCertificate(await client.finalizeOrder(order, csr))
  const files = { certificate: join(folder, 'chain.pem'), key: join(folder, 'key.pem') }
  writeFileSync(files.certificate, certificate)
  writeFileSync(files.key, key)
  expect(await world.call(files)).toMatch(/^library-probed /)
})
