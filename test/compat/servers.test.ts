// Servers that nobody here wrote, as relying parties: see relying-party.ts for what each is asked, parties/ for how it is started.
import { afterAll } from 'vitest'
import { apache } from './parties/apache.ts'
import { certificateTools } from './parties/certificate-tools.ts'
import { haproxy } from './parties/haproxy.ts'
import { keptNew } from './parties/kept-new.ts'
import { nginx } from './parties/nginx.ts'
import { gnutlsServer, opensslServer } from './parties/tls-tools.ts'
import { relyingParty } from './relying-party.ts'
import { endWorld } from './world.ts'

// The first that is declared runs last.
afterAll(endWorld)
for (const party of [...nginx, haproxy, ...apache, opensslServer, gnutlsServer]) relyingParty(party)
certificateTools()
keptNew()
