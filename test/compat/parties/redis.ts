// Redis with the configurations of docs/integrations/redis.md: behind the TCP proxy of agentca-verify, and on its own.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { root as checkout } from '../../../scripts/bootstrap.mjs'
import { freePort } from '../../setup/free-port.ts'
import { runProgram } from '../../story/served-ca.ts'
import { until } from '../../story/until.ts'
import type { RelyingParty, Scene } from '../relying-party.ts'
import {
  fromPage,
  inScratch,
  type Places,
  runShell,
  type Started,
  startServer,
  untilListening,
} from '../server-process.ts'
import type { Subject } from '../subject.ts'

const subject: Subject = {
  name: 'Redis',
  programs: ['redis-server', 'redis-cli'],
  version: ['--version'],
  from: 'Debian: redis-server',
  atLeast: '6.0',
}

const ping: RelyingParty['call'] = async ({ found, etc, scratch }, port, identity) => {
  const shown = identity === null ? [] : ['--cert', join(identity, 'tls.crt'), '--key', join(identity, 'tls.key')]
  const args = [
    '-h',
    '127.0.0.1',
    '-p',
    String(port),
    '--tls',
    '--cacert',
    join(etc, 'orders/ca.crt'),
    ...shown,
    'ping',
  ]
  const { code, out, err } = await runProgram(found.path('redis-cli'), args, { cwd: scratch })
  if (code === 0 && out.trim() === 'PONG') return 'PONG'
  if (/Connection refused|timed out/.test(err)) throw new Error(`redis-cli: ${err}`)
  return 'refused'
}

const startRedis = (scene: Scene, words: string, places: Places): Started => {
  const file = inScratch(scene, 'redis.conf')
  writeFileSync(file, `${fromPage(scene, 'redis', 'conf', words, places)}save ""\ndir ${scene.scratch}\n`)
  return startServer(scene.found.path('redis-server'), [file], { cwd: scene.scratch })
}

const alone: RelyingParty = {
  subject,
  by: 'dates alone',
  letsIn: 'whoever has a certificate',
  greets: 'PONG',
  call: ping,
  start: async scene => {
    const places = { port: await freePort() }
    const running = startRedis(scene, 'tls-port', places)
    await untilListening(places.port, running)
    const reload = fromPage(scene, 'redis', 'sh', 'config set', places)
      .replace('redis-cli', scene.found.path('redis-cli'))
      .replace('-h orders.internal', '-h 127.0.0.1')
    return {
      port: places.port,
      reload: async () => {
        const said = await runShell(scene, reload)
        if (said.trim() !== 'OK') throw new Error(`config set: ${said}`)
      },
      [Symbol.asyncDispose]: () => running[Symbol.asyncDispose](),
    }
  },
}

const behindTheSidecar: RelyingParty = {
  subject,
  by: 'agentca-verify',
  greets: 'PONG',
  call: ping,
  renewal: 'by itself',
  ownFiles: { owner: null },
  start: async scene => {
    const more = { '/run/redis': scene.scratch, '/var/lib/agentca-verify': inScratch(scene, 'state') }
    const places = { port: await freePort(), more }
    const redis = startRedis(scene, 'unixsocket ', places)
    await until('Redis is ready', () => redis.log().includes('ready to accept connections'), redis.log)
    const command = fromPage(scene, 'redis', 'sh', '--mode tcp', places).trim()
    const line = command.replace(/^agentca-verify/, `exec ${join(checkout, 'bin/agentca-verify')}`)
    const sidecar = startServer('bash', ['-ec', line], { cwd: scene.scratch, env: scene.world.ca.env })
    await until('agentca-verify is ready', () => sidecar.log().includes('"ready":true'), sidecar.log)
    return {
      port: places.port,
      reload: async () => {},
      [Symbol.asyncDispose]: async () => {
        await sidecar[Symbol.asyncDispose]()
        await redis[Symbol.asyncDispose]()
      },
    }
  },
}

export const redis = [behindTheSidecar, alone]
