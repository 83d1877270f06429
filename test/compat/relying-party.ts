// What every relying party is asked: whom it lets in and whom it refuses, and whether a reload after a revocation and after a renewal is
// enough. How each one is started is its own file in parties/, with the configuration of its page in docs/integrations.
import { copyFileSync, existsSync, mkdirSync, renameSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, expect } from 'vitest'
import { runProgram } from '../story/served-ca.ts'
import { until } from '../story/until.ts'
import { compat } from './compat.ts'
import type { FoundSubject, Subject } from './subject.ts'
import { type CompatWorld, compatWorld, serialOf } from './world.ts'

/** `null`: without a certificate. */
export type Caller = string | null

export interface Scene {
  readonly world: CompatWorld
  readonly found: FoundSubject
  /** Stands for /etc/agentca of the page: `orders/` is the service's directory, `crls.pem` this server's own. */
  readonly etc: string
  /** Renews the service's files. @returns the new serial, lower-case hex */
  renew(): Promise<string>
  /** For all else that it writes. */
  readonly scratch: string
}

export interface RunningServer extends AsyncDisposable {
  readonly port: number
  /** By the command of the page. */
  reload(): Promise<void>
}

export interface RelyingParty {
  readonly subject: Subject
  /** What it decides by, for the names of checks. `dates alone`: it can read no lists and asks nobody. */
  readonly by: 'lists' | 'OCSP' | 'agentca-verify' | 'dates alone'
  start(scene: Scene): Promise<RunningServer>
  /** @param identity a directory of files @returns what came back, `refused`, or throws where nobody answers. Default: HTTPS by curl */
  call?(scene: Scene, port: number, identity: Caller): Promise<string>
  /** Default: agents alone. */
  readonly letsIn?: 'whoever has a certificate'
  /** What a good agent's call brings. */
  readonly greets: string
  /** Before TLS. */
  readonly starttls?: 'postgres'
  /** Without it all share one directory of the service's files; `null`: nobody but this one renews there. */
  readonly ownFiles?: { readonly owner: string | null }
  /** Default: by its reload. */
  readonly renewal?: 'by itself'
}

export const http = async ({ world, etc }: Scene, port: number, identity: Caller): Promise<string> => {
  const shown = identity === null ? [] : ['--cert', join(identity, 'tls.crt'), '--key', join(identity, 'tls.key')]
  const to = ['--resolve', `orders.internal:${port}:127.0.0.1`, `https://orders.internal:${port}/`]
  const args = ['--silent', '--show-error', '--max-time', '60', '--fail', '--cacert', join(etc, 'orders/ca.crt')]
  const { code, out, err } = await runProgram('curl', [...args, ...shown, ...to], { cwd: world.ca.directory })
  if (code === 0) return out.trim()
  // 22: a status of 400 or more; 35, 52, 55, 56: what TLS 1.3 makes of a refusal, before or after the request was sent.
  if ([22, 35, 52, 55, 56].includes(code)) return 'refused'
  throw new Error(`curl: exit code ${code}: ${err}`)
}

/** Of the certificate that a server shows, lower-case hex; whoever asks has none to show, so that the handshake need not succeed. */
export const shownSerial = async (port: number, starttls?: string): Promise<string> => {
  const how = starttls === undefined ? [] : ['-starttls', starttls]
  const asked = ['s_client', '-connect', `127.0.0.1:${port}`, '-servername', 'orders.internal', ...how]
  const { out } = await runProgram('openssl', asked, { cwd: '/' })
  const pem = /-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/.exec(out)?.[0]
  if (pem === undefined) return ''
  const { X509Certificate } = await import('node:crypto')
  return new X509Certificate(pem).serialNumber.toLowerCase()
}

/** Declares the checks. */
export const relyingParty = (party: RelyingParty): void => {
  const { subject, by, greets, starttls } = party
  const call = party.call ?? http
  let begun: Promise<{ scene: Scene; server: RunningServer }> | null = null
  const begin = (found: FoundSubject) => {
    begun ??= (async () => {
      const scene = await sceneOf(party, found)
      return { scene, server: await party.start(scene) }
    })()
    return begun
  }
  afterAll(async () => {
    const { server } = (await begun?.catch(() => null)) ?? {}
    await server?.[Symbol.asyncDispose]()
  })
  const as = ({ world }: Scene, name: string) => join(world.etc, name)

  compat(subject, `accepts a good agent (${by})`, async found => {
    const { scene, server } = await begin(found)
    expect(await call(scene, server.port, as(scene, 'good'))).toBe(greets)
  })
  compat(
    subject,
    `refuses an expired, a foreign and a forged agent, and who has no certificate (${by})`,
    async found => {
      const { scene, server } = await begin(found)
      for (const who of ['expired', 'foreign', 'forged'])
        expect([who, await call(scene, server.port, as(scene, who))]).toEqual([who, 'refused'])
      expect(await call(scene, server.port, null)).toBe('refused')
    },
  )
  compat(
    subject,
    `resumes no session, by which a caller would pass without being checked again (${by})`,
    async found => {
      const { scene, server } = await begin(found)
      const how = starttls === undefined ? [] : ['-starttls', starttls]
      const good = as(scene, 'good')
      const identity = [
        '-cert',
        join(good, 'tls.crt'),
        '-cert_chain',
        join(good, 'tls.crt'),
        '-key',
        join(good, 'tls.key'),
      ]
      const connect = async (...more: readonly string[]): Promise<string> => {
        const args = ['s_client', '-connect', `127.0.0.1:${server.port}`, ...how, ...identity, '-ign_eof', ...more]
        // Whatever protocol it speaks: after this it has answered and hangs up.
        return (
          await runProgram('openssl', args, {
            cwd: scene.scratch,
            says: 'GET / HTTP/1.0\r\nHost: orders.internal\r\n\r\n',
          })
        ).out
      }
      expect(await connect('-sess_out', 'session')).toContain('New, TLSv1.3')
      if (!existsSync(join(scene.scratch, 'session'))) return
      const again = await connect('-sess_in', 'session')
      expect(again).toContain('New, TLSv1.3')
      expect(again).not.toContain('Reused, ')
    },
  )
  revocationCheck(party, begin)
  if (party.renewal === 'by itself') return
  compat(subject, `shows its renewed certificate after the reload (${by})`, async found => {
    const { scene, server } = await begin(found)
    const before = serialOf(join(scene.etc, 'orders'))
    const renewed = await scene.renew()
    expect(renewed).not.toBe(before)
    await server.reload()
    await until('the renewed certificate is shown', async () => (await shownSerial(server.port, starttls)) === renewed)
    expect(await call(scene, server.port, as(scene, 'good'))).toBe(greets)
  })
}

type Begin = (found: FoundSubject) => Promise<{ readonly scene: Scene; readonly server: RunningServer }>

const revocationCheck = ({ subject, by, greets, call = http }: RelyingParty, begin: Begin): void => {
  const good = ({ world }: Scene) => join(world.etc, 'good')
  if (by === 'dates alone')
    compat(subject, 'knows nothing of revocations: a revoked agent gets in until its certificate ends', async found => {
      const { scene, server } = await begin(found)
      expect(await call(scene, server.port, join(scene.world.etc, 'revoked'))).toBe(greets.replace('good', 'revoked'))
    })
  else if (by === 'lists')
    compat(subject, 'refuses a revoked agent after the reload with the new list', async found => {
      const { scene, server } = await begin(found)
      const revoked = () => call(scene, server.port, join(scene.world.etc, 'revoked'))
      // The list that it has is from before.
      expect(await revoked()).toBe(greets.replace('good', 'revoked'))
      putList(scene, 'crls.pem')
      await server.reload()
      await until('the revoked agent is refused', async () => (await revoked()) === 'refused')
      expect(await call(scene, server.port, good(scene))).toBe(greets)
    })
  else
    compat(subject, `refuses a revoked agent from its next connection on (${by})`, async found => {
      const { scene, server } = await begin(found)
      const name = `leaked-${subject.name.toLowerCase().replaceAll(/[^a-z]+/g, '-')}`
      const leaked = await scene.world.agent(name)
      expect(await call(scene, server.port, leaked)).toBe(greets.replace('good', name))
      await scene.world.revoke(name)
      await until('the revoked agent is refused', async () => (await call(scene, server.port, leaked)) === 'refused')
      expect(await call(scene, server.port, join(scene.world.etc, 'revoked'))).toBe('refused')
      expect(await call(scene, server.port, good(scene))).toBe(greets)
    })
}

let scenes = 0

export const sceneOf = async ({ subject, by, ownFiles }: RelyingParty, found: FoundSubject): Promise<Scene> => {
  const world = await compatWorld()
  scenes += 1
  const scratch = join(
    world.ca.directory,
    `${scenes}-${subject.name.replaceAll(/\W+/g, '-')}-${by.replaceAll(/\W/g, '-')}`,
  )
  const etc = join(scratch, 'etc')
  mkdirSync(etc, { recursive: true })
  const orders = join(etc, 'orders')
  if (ownFiles === undefined) symlinkSync(join(world.etc, 'orders'), orders)
  else await world.serviceFor(orders, ownFiles.owner)
  const scene = { world, found, etc, scratch, renew: () => world.renew(orders) }
  putList(scene, 'crls.before.pem')
  return scene
}

/** By rename, as whoever keeps lists new does it. */
const putList = ({ world, etc }: Pick<Scene, 'world' | 'etc'>, name: string): void => {
  copyFileSync(join(world.etc, name), join(etc, 'crls.new'))
  renameSync(join(etc, 'crls.new'), join(etc, 'crls.pem'))
}
