// Apache httpd with the configuration of docs/integrations/apache.md, by lists and by OCSP.
import { writeFileSync } from 'node:fs'
import { blockWith } from '../../setup/documents.ts'
import { freePort } from '../../setup/free-port.ts'
import type { RelyingParty, Scene } from '../relying-party.ts'
import { fromPage, inScratch, runShell, startBackend, startServer, untilListening } from '../server-process.ts'
import type { Subject } from '../subject.ts'

const subject: Subject = { name: 'Apache httpd', programs: ['apache2'], version: ['-v'], from: 'Debian: apache2' }
const page = 'apache'

/** What a distribution has around a site, with the modules that the page switches on. */
const around = (scene: Scene): string => {
  const { text } = blockWith(`docs/integrations/${page}.md`, 'sh', 'a2enmod')
  const enabled = (/a2enmod (.*)/.exec(text)?.[1] ?? '').split(' ')
  const modules = ['mpm_event', 'authz_core', ...enabled].map(
    name => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
  )
  const own = [`ServerRoot ${scene.scratch}`, `PidFile ${inScratch(scene, 'apache.pid')}`, 'ServerName localhost']
  const user = process.getuid?.() === 0 ? ['User www-data', 'Group www-data'] : []
  const mutex = [`DefaultRuntimeDir ${scene.scratch}`, `ErrorLog ${inScratch(scene, 'error.log')}`]
  return [...modules, ...own, ...user, ...mutex].join('\n')
}

const start =
  (by: RelyingParty['by']): RelyingParty['start'] =>
  async scene => {
    const backend = await startBackend()
    const places = { port: await freePort(), backendPort: backend.port }
    let site = fromPage(scene, page, 'apache', 'SSLCARevocationFile', places)
    if (by === 'OCSP') {
      await runShell(scene, fromPage(scene, page, 'sh', '/aia/bundle.pem', places))
      const ocsp = fromPage(scene, page, 'apache', 'SSLOCSPEnable', places)
      site = site.replace(/^ *SSLCARevocationFile .*\n *SSLCARevocationCheck .*\n/m, ocsp)
    }
    const file = inScratch(scene, 'apache.conf')
    writeFileSync(file, `${around(scene)}\n${site}`)
    const apache = scene.found.path('apache2')
    const running = startServer(apache, ['-f', file, '-DFOREGROUND'], { cwd: scene.scratch })
    await untilListening(places.port, running)
    const reload = fromPage(scene, page, 'sh', 'apachectl graceful', places)
    return {
      port: places.port,
      // Debian's apachectl is a shell around this, for the one configuration of the system.
      reload: async () => void (await runShell(scene, reload.replace('apachectl', `${apache} -f ${file} -k`))),
      [Symbol.asyncDispose]: async () => {
        await running[Symbol.asyncDispose]()
        await backend[Symbol.asyncDispose]()
      },
    }
  }

export const apache = (['lists', 'OCSP'] as const).map(
  (by): RelyingParty => ({ subject, by, start: start(by), greets: 'for good' }),
)
