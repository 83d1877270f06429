// certbot, unchanged, with the commands of its page; the present one from PyPI too, which asks the CA when to renew (ARI, RFC 9773).
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'vitest'
import { until } from '../../story/until.ts'
import { cacheFolder } from '../cache.ts'
import { compat } from '../compat.ts'
import type { Programs, Subject } from '../subject.ts'
import { acmeWorld, commands, leafIn, passed, probedName, probingProfile } from './world.ts'

const page = 'certbot.md'
const certbot: Subject = { name: 'certbot', programs: ['certbot'], version: ['--version'], from: 'Debian: certbot' }
/** Of the page. */
const name = 'agent-invoices'

const present = '5.8.0'
const venv = join(cacheFolder, `certbot-${present}`)
/** Made once, by whoever looks for it first: where it cannot be, its check is skipped. */
const presentCertbot = ({ path }: Programs): string => {
  const complete = join(venv, '.complete')
  if (existsSync(complete)) return present
  const run = (program: string, args: readonly string[]) =>
    execFileSync(program, args, { stdio: 'pipe', timeout: 150_000 })
  run(path('python3'), ['-m', 'venv', '--clear', venv])
  run(join(venv, 'bin/pip'), ['install', '--quiet', '--disable-pip-version-check', `certbot==${present}`])
  writeFileSync(complete, '')
  return present
}
const certbotOfPyPi: Subject = {
  name: 'certbot (PyPI)',
  programs: ['python3'],
  version: presentCertbot,
  from: `PyPI: certbot ${present}`,
}

/** Its folders in one place that is ours, which is what `cli.ini` is for. */
const installed = async (folder: string) => {
  const world = await acmeWorld()
  const at = await world.folder(folder)
  const settings = join(at, 'config/letsencrypt')
  mkdirSync(settings, { recursive: true })
  const folders = { 'config-dir': 'etc', 'work-dir': 'work', 'logs-dir': 'logs' }
  const lines = Object.entries(folders).map(([key, value]) => `${key} = ${join(at, value)}\n`)
  writeFileSync(join(settings, 'cli.ini'), lines.join(''))
  const live = (of: string) => ({
    certificate: join(at, 'etc/live', of, 'fullchain.pem'),
    key: join(at, 'etc/live', of, 'privkey.pem'),
  })
  return {
    world,
    at,
    live,
    run: async (script: string) => {
      const text = script
        .replaceAll('/etc/letsencrypt', join(at, 'etc'))
        .replaceAll('systemctl reload invoices', `touch ${join(at, 'reloaded')}`)
      const env = { XDG_CONFIG_HOME: join(at, 'config'), REQUESTS_CA_BUNDLE: join(at, 'ca.pem') }
      const { code, out, err } = await world.play(text, at, env)
      return { code, said: out + err }
    },
  }
}

/** As the page makes it; the checks after the first one go on with it. */
const first = async () => {
  const made = await installed('certbot')
  passed(await made.run(commands(page, 'eab create')))
  passed(await made.run(commands(page, 'certonly')))
  return made
}
let begun: ReturnType<typeof first> | null = null
const certified = (): ReturnType<typeof first> => {
  begun ??= first()
  return begun
}

const spiffeId = /^spiffe:\/\/agentca\.local\/agent\/invoices\/i\/[0-9a-f]{32}$/

compat(certbot, 'gets a certificate with EAB only, which makes its holder an agent at `agentVerifier`', async () => {
  const { world, live } = await certified()
  const leaf = leafIn(live(name).certificate)
  expect(leaf.dnsNames).toEqual([name])
  expect(leaf.spiffeId).toMatch(spiffeId)
  expect(await world.call(live(name))).toBe(`invoices ${leaf.spiffeId?.split('/').at(-1)}`)
})

compat(certbot, 'renews with another key for the same instance, and runs its hook; not before it is time', async () => {
  const { world, at, live, run } = await certified()
  const before = leafIn(live(name).certificate)
  passed(await run(commands(page, 'renew --cert-name')))
  const after = leafIn(live(name).certificate)
  expect(after.serialHex).not.toBe(before.serialHex)
  expect(after.spkiHashHex).not.toBe(before.spkiHashHex)
  expect(after.spiffeId).toBe(before.spiffeId)
  expect(existsSync(join(at, 'reloaded'))).toBe(true)
  expect(readFileSync(join(at, 'etc/renewal', `${name}.conf`), 'utf8')).toMatch(/^renew_hook = touch /m)
  expect(await world.call(live(name))).toMatch(/^invoices /)
  passed(await run('certbot renew --no-random-sleep-on-renew --non-interactive'))
  expect(leafIn(live(name).certificate).serialHex).toBe(after.serialHex)
})

compat(certbot, 'is refused its renewal while the agent is held, and told why', async () => {
  const { world, live, run } = await certified()
  const before = leafIn(live(name).certificate).serialHex
  await world.agentca('agent', 'hold', 'invoices')
  const refused = await run('certbot renew --force-renewal --no-random-sleep-on-renew --non-interactive')
  await world.agentca('agent', 'release', 'invoices')
  expect(refused).toMatchObject({ code: 1, said: expect.stringMatching(/unauthorized/) })
  expect(refused.said).toMatch(/held/)
  expect(leafIn(live(name).certificate).serialHex).toBe(before)
})

compat(certbot, 'revokes; the verifier refuses the certificate on its next call', async () => {
  const { world, at, live, run } = await certified()
  // The command removes its files.
  const kept = await world.folder('certbot-kept')
  await world.play(`cp -L ${live(name).certificate} ${live(name).key} .`, kept)
  const files = { certificate: join(kept, 'fullchain.pem'), key: join(kept, 'privkey.pem') }
  await until('the verifier lets the agent in again', async () => (await world.call(files)).startsWith('invoices '))
  passed(await run(commands(page, 'certbot revoke')))
  await until('the verifier refuses it', async () => (await world.call(files)) === '403')
  expect(existsSync(join(at, 'etc/live', name))).toBe(false)
})

compat(certbot, 'is refused with a wrong or a used EAB, and gets nothing', async () => {
  const { world, run, live } = await installed('certbot-refused')
  const { kid } = await world.binding('refused')
  const order = (hmacKey: string) =>
    run(
      commands(page, 'certonly')
        .replace('"$(eab kid)"', kid)
        .replace('"$(eab hmacKey)"', hmacKey)
        .replaceAll(name, 'agent-refused'),
    )
  const wrong = await order(Buffer.alloc(32, 7).toString('base64url'))
  expect(wrong).toMatchObject({ code: 1, said: expect.stringMatching(/not signed by its MAC key/) })
  const { at } = await certified()
  const used = await run(
    commands(page, 'certonly').replaceAll('invoices.eab', join(at, 'invoices.eab')).replaceAll(name, 'agent-refused'),
  )
  expect(used).toMatchObject({ code: 1, said: expect.stringMatching(/was used for another account/) })
  expect(existsSync(live('agent-refused').certificate)).toBe(false)
})

compat(certbot, 'proves a name by http-01 where the profile lets the CA probe', async () => {
  const { world, run, live } = await installed('certbot-probed')
  await world.agentca('agent', 'create', 'probed', '--owner', 'finance', '--profile', probingProfile)
  const { kid, hmacKey } = await world.agentca<{ kid: string; hmacKey: string }>(
    ...['acme', 'eab', 'create', '--agent', 'probed'],
  )
  const listen = `--http-01-address 127.0.0.1 --http-01-port ${world.ports.http}`
  const script = commands(page, 'certonly')
    .replace('"$(eab kid)"', kid)
    .replace('"$(eab hmacKey)"', `${hmacKey} ${listen}`)
    .replaceAll(name, probedName)
  passed(await run(script))
  expect(leafIn(live(probedName).certificate).dnsNames).toEqual([probedName])
  expect(await world.call(live(probedName))).toMatch(/^probed /)
})

compat(
  certbotOfPyPi,
  'asks when to renew (ARI): not by itself, and at once when its certificate was revoked',
  async () => {
    const { world, run, live } = await installed('certbot-ari')
    const { kid, hmacKey } = await world.binding('asking')
    const own = 'agent-asking'
    const script = commands(page, 'certonly').replace('"$(eab kid)"', kid).replace('"$(eab hmacKey)"', hmacKey)
    const here = (text: string) => run(`export PATH="${join(venv, 'bin')}:$PATH"\n${text}`)
    passed(await here(script.replaceAll(name, own)))
    const first = leafIn(live(own).certificate)
    passed(await here('certbot renew --no-random-sleep-on-renew --non-interactive'))
    expect(leafIn(live(own).certificate).serialHex).toBe(first.serialHex)

    await world.agentca('revoke', '--serial', first.serialHex, '--reason', 'superseded', '--yes')
    passed(await here('certbot renew --no-random-sleep-on-renew --non-interactive'))
    const second = leafIn(live(own).certificate)
    expect(second.serialHex).not.toBe(first.serialHex)
    expect(second.spiffeId).toBe(first.spiffeId)
    expect(await world.call(live(own))).toMatch(/^asking /)
  },
)
