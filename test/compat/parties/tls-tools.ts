// `openssl s_server` and `gnutls-serv`, with the commands of docs/integrations/openssl.md and gnutls.md.
import { freePort } from '../../setup/free-port.ts'
import { http, type RelyingParty } from '../relying-party.ts'
import { fromPage, restarting, startServer } from '../server-process.ts'

/** Both answer with a page about the connection. */
const whoItTells: NonNullable<RelyingParty['call']> = async (scene, port, identity) => {
  const answer = await http(scene, port, identity)
  return answer === 'refused' ? answer : (/CN ?= ?agent-([a-z0-9-]+)/.exec(answer)?.[1] ?? answer)
}

const started =
  (page: string, words: string, program: string): RelyingParty['start'] =>
  async scene => {
    const places = { port: await freePort() }
    const command = fromPage(scene, page, 'sh', words, places)
      .replaceAll('\\\n', ' ')
      .replace(`\n${words}`, `\nexec ${scene.found.path(program)}${words.slice(words.indexOf(' '))}`)
    // As a new list is put there by rename, the files are read again by each start.
    return restarting(places.port, () => startServer('bash', ['-ec', `\n${command}`], { cwd: scene.scratch }))
  }

export const opensslServer: RelyingParty = {
  subject: { name: 'OpenSSL', programs: ['openssl'], version: ['version'], from: 'Debian: openssl' },
  by: 'lists',
  letsIn: 'whoever has a certificate',
  greets: 'good',
  call: whoItTells,
  start: started('openssl', 'openssl s_server', 'openssl'),
}

export const gnutlsServer: RelyingParty = {
  subject: {
    name: 'GnuTLS',
    programs: ['gnutls-serv', 'certtool'],
    version: ['--version'],
    from: 'Debian: gnutls-bin',
  },
  by: 'lists',
  letsIn: 'whoever has a certificate',
  greets: 'good',
  call: whoItTells,
  start: started('gnutls', 'gnutls-serv --', 'gnutls-serv'),
}
