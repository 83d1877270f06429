// nginx with the configuration of docs/integrations/nginx-lists.md, by lists and by OCSP.
import { writeFileSync } from 'node:fs'
import { freePort } from '../../setup/free-port.ts'
import type { RelyingParty, Scene } from '../relying-party.ts'
import { fromPage, inScratch, runShell, startBackend, startServer, untilListening } from '../server-process.ts'
import type { Subject } from '../subject.ts'

const subject: Subject = { name: 'nginx', programs: ['nginx'], version: ['-v'], from: 'Debian: nginx' }
const page = 'nginx-lists'

const start =
  (by: RelyingParty['by']): RelyingParty['start'] =>
  async scene => {
    const backend = await startBackend()
    const places = { port: await freePort(), backendPort: backend.port }
    let server = fromPage(scene, page, 'nginx', 'ssl_crl', places)
    if (by === 'OCSP') server = server.replace(/^ *ssl_crl .*\n/m, fromPage(scene, page, 'nginx', 'ssl_ocsp', places))
    const file = inScratch(scene, 'nginx.conf')
    writeFileSync(file, `${around(scene)}\n${server}}\n`)
    const nginx = scene.found.path('nginx')
    const running = startServer(nginx, ['-c', file], { cwd: scene.scratch, end: 'SIGQUIT' })
    await untilListening(places.port, running)
    const reload = fromPage(scene, page, 'sh', 'nginx -s reload', places).replaceAll(
      'nginx -s',
      `${nginx} -c ${file} -s`,
    )
    return {
      port: places.port,
      reload: async () => void (await runShell(scene, reload)),
      [Symbol.asyncDispose]: async () => {
        await running[Symbol.asyncDispose]()
        await backend[Symbol.asyncDispose]()
      },
    }
  }

/** What distributions have around a server block. */
const around = (scene: Scene): string => {
  const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi']
    .map(name => `${name}_temp_path ${inScratch(scene, name)};`)
    .join(' ')
  const pid = inScratch(scene, 'nginx.pid')
  return `daemon off; pid ${pid}; error_log stderr; events {}\nhttp { access_log off; ${temporary}`
}

export const nginx = (['lists', 'OCSP'] as const).map(
  (by): RelyingParty => ({ subject, by, start: start(by), greets: 'for good' }),
)
