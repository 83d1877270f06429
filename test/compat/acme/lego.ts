// lego, unchanged, with the commands of its page.
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { until } from '../../story/until.ts'
import { compat } from '../compat.ts'
import { locate, type Subject } from '../subject.ts'
import { acmeWorld, commands, leafIn, passed, probedName, probingProfile } from './world.ts'

const page = 'lego.md'
/** Debian builds it without a version of its own: what the package says. */
const packaged = (): string => {
  const query = locate('dpkg-query')
  if (query === null) return ''
  // biome-ignore lint/suspicious/noTemplateCurlyInString: dpkg-query's own way to name a field.
  return execFileSync(query, ['--show', '--showformat', '${Version}', 'lego'], { encoding: 'utf8' })
}
const lego: Subject = { name: 'lego', programs: ['lego'], version: packaged, from: 'Debian: lego' }
/** Of the page. */
const name = 'agent-reports'

const installed = async (folder: string) => {
  const world = await acmeWorld()
  const at = await world.folder(folder)
  const certificates = join(at, 'lego/certificates')
  const files = (of: string) => ({
    certificate: join(certificates, `${of}.crt`),
    key: join(certificates, `${of}.key`),
  })
  return {
    world,
    at,
    files,
    certificates,
    run: async (script: string) => {
      const text = script.replaceAll('systemctl reload reports', `touch ${join(at, 'reloaded')}`)
      const env = { LEGO_CA_CERTIFICATES: join(at, 'ca.pem'), LEGO_PATH: join(at, 'lego') }
      const { code, out, err } = await world.play(text, at, env)
      return { code, said: out + err }
    },
  }
}

/** As the page makes it; the checks after the first one go on with it. */
const first = async () => {
  const made = await installed('lego-home')
  passed(await made.run(commands(page, 'eab create')))
  passed(await made.run(commands(page, '--kid')))
  return made
}
let begun: ReturnType<typeof first> | null = null
const certified = (): ReturnType<typeof first> => {
  begun ??= first()
  return begun
}

compat(lego, 'gets a certificate with EAB only, which makes its holder an agent at `agentVerifier`', async () => {
  const { world, files } = await certified()
  const leaf = leafIn(files(name).certificate)
  expect(leaf.dnsNames).toEqual([name])
  expect(leaf.spiffeId).toMatch(/^spiffe:\/\/agentca\.local\/agent\/reports\/i\/[0-9a-f]{32}$/)
  expect(await world.call(files(name))).toBe(`reports ${leaf.spiffeId?.split('/').at(-1)}`)
})

compat(lego, 'renews with another key for the same instance, and runs its hook; not before it is time', async () => {
  const { world, at, files, run } = await certified()
  const before = leafIn(files(name).certificate)
  const renew = commands(page, 'renew --days')
  passed(await run(renew))
  expect(leafIn(files(name).certificate).serialHex).toBe(before.serialHex)
  expect(existsSync(join(at, 'reloaded'))).toBe(false)

  // More days than it has left: as it is in a few days.
  passed(await run(renew.replace('--days 4', '--days 30')))
  const after = leafIn(files(name).certificate)
  expect(after.serialHex).not.toBe(before.serialHex)
  expect(after.spkiHashHex).not.toBe(before.spkiHashHex)
  expect(after.spiffeId).toBe(before.spiffeId)
  expect(existsSync(join(at, 'reloaded'))).toBe(true)
  expect(await world.call(files(name))).toMatch(/^reports /)
})

compat(lego, 'is refused its renewal while the agent is held, and told why', async () => {
  const { world, files, run } = await certified()
  const before = leafIn(files(name).certificate).serialHex
  await world.agentca('agent', 'hold', 'reports')
  const refused = await run(commands(page, 'renew --days').replace('--days 4', '--days 30'))
  await world.agentca('agent', 'release', 'reports')
  expect(refused).toMatchObject({ code: 1, said: expect.stringMatching(/unauthorized/) })
  expect(refused.said).toMatch(/held/)
  expect(leafIn(files(name).certificate).serialHex).toBe(before)
})

compat(lego, 'revokes; the verifier refuses the certificate on its next call', async () => {
  const { world, files, certificates, run } = await certified()
  // The command moves its files away.
  const kept = await world.folder('lego-kept')
  await world.play(`cp ${certificates}/* .`, kept)
  const copies = { certificate: join(kept, `${name}.crt`), key: join(kept, `${name}.key`) }
  await until('the verifier lets the agent in again', async () => (await world.call(copies)).startsWith('reports '))
  passed(await run(commands(page, 'revoke --reason')))
  await until('the verifier refuses it', async () => (await world.call(copies)) === '403')
  expect(existsSync(files(name).certificate)).toBe(false)
})

compat(lego, 'gets and renews the certificate of a service for a name that was granted', async () => {
  const { world, run, files } = await installed('lego-service')
  await world.agentca('service', 'create', 'shop', '--dns', 'shop.internal')
  const { kid, hmacKey } = await world.agentca<{ kid: string; hmacKey: string }>(
    ...['acme', 'eab', 'create', '--service', 'shop'],
  )
  const names = 'svc-shop --domains shop.internal'
  const order = commands(page, '--kid').replace('"$(eab kid)"', kid).replace('"$(eab hmacKey)"', hmacKey)
  passed(await run(order.replaceAll(name, names)))
  const before = leafIn(files('svc-shop').certificate)
  passed(await run(commands(page, 'renew --days').replace('--days 4', '--days 30').replaceAll(name, names)))
  const after = leafIn(files('svc-shop').certificate)
  expect(after.serialHex).not.toBe(before.serialHex)
  for (const leaf of [before, after]) expect([...leaf.dnsNames].sort()).toEqual(['shop.internal', 'svc-shop'])
})

compat(lego, 'is refused with a wrong or a used EAB, and gets nothing', async () => {
  const { world, run, certificates } = await installed('lego-refused')
  const { kid } = await world.binding('lego-refused')
  const order = commands(page, '--kid').replaceAll(name, 'agent-lego-refused')
  const wrong = await run(
    order.replace('"$(eab kid)"', kid).replace('"$(eab hmacKey)"', Buffer.alloc(32, 7).toString('base64url')),
  )
  expect(wrong).toMatchObject({ code: 1, said: expect.stringMatching(/not signed by its MAC key/) })
  const { at } = await certified()
  const used = await run(order.replaceAll('reports.eab', join(at, 'reports.eab')))
  expect(used).toMatchObject({ code: 1, said: expect.stringMatching(/was used for another account/) })
  expect(existsSync(certificates) ? readdirSync(certificates) : []).toEqual([])
})

compat(lego, 'proves a name by http-01 and by tls-alpn-01 where the profile lets the CA probe', async () => {
  const { world, run, files } = await installed('lego-probed')
  await world.agentca('agent', 'create', 'lego-probed', '--owner', 'finance', '--profile', probingProfile)
  for (const by of [
    `--http --http.port 127.0.0.1:${world.ports.http}`,
    `--tls --tls.port 127.0.0.1:${world.ports.tls}`,
  ]) {
    const { kid, hmacKey } = await world.agentca<{ kid: string; hmacKey: string }>(
      ...['acme', 'eab', 'create', '--agent', 'lego-probed'],
    )
    const script = commands(page, '--kid')
      .replace('"$(eab kid)"', kid)
      .replace('"$(eab hmacKey)"', hmacKey)
      .replace('--http ', `${by} `)
      .replaceAll(name, probedName)
    // Another account of the same agent: another instance.
    passed(await run(`rm -rf lego\n${script}`))
    expect(leafIn(files(probedName).certificate).dnsNames).toEqual([probedName])
    expect(await world.call(files(probedName))).toMatch(/^lego-probed /)
  }
})
