// ACME clients that nobody here wrote, against one served CA. Each one's checks are a file in acme/.
import { afterAll } from 'vitest'
import './acme/acme-client.ts'
import './acme/certbot.ts'
import './acme/lego.ts'
import { endAcmeWorld } from './acme/world.ts'

afterAll(endAcmeWorld)
