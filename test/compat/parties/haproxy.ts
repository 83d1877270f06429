// HAProxy with the configuration of docs/integrations/haproxy-lists.md.
import { writeFileSync } from 'node:fs'
import { freePort } from '../../setup/free-port.ts'
import type { RelyingParty } from '../relying-party.ts'
import { fromPage, inScratch, runShell, startBackend, startServer, untilListening } from '../server-process.ts'

const page = 'haproxy-lists'

export const haproxy: RelyingParty = {
  subject: { name: 'HAProxy', programs: ['haproxy'], version: ['-v'], from: 'Debian: haproxy' },
  by: 'lists',
  greets: 'for good',
  start: async scene => {
    const backend = await startBackend()
    const more = { '/run/haproxy.pid': inScratch(scene, 'haproxy.pid') }
    const places = { port: await freePort(), backendPort: backend.port, more }
    const file = inScratch(scene, 'haproxy.cfg')
    writeFileSync(file, fromPage(scene, page, 'haproxy', 'crl-file', places))
    const args = ['-W', '-db', '-f', file, '-p', more['/run/haproxy.pid']]
    const running = startServer(scene.found.path('haproxy'), args, { cwd: scene.scratch })
    await untilListening(places.port, running)
    return {
      port: places.port,
      reload: async () => void (await runShell(scene, fromPage(scene, page, 'sh', 'kill -USR2', places))),
      [Symbol.asyncDispose]: async () => {
        await running[Symbol.asyncDispose]()
        await backend[Symbol.asyncDispose]()
      },
    }
  },
}
