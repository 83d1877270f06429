// Databases that nobody here wrote, as relying parties.
import { afterAll } from 'vitest'
import { postgresql } from './parties/postgresql.ts'
import { redis } from './parties/redis.ts'
import { relyingParty } from './relying-party.ts'
import { endWorld } from './world.ts'

afterAll(endWorld)
for (const party of [postgresql, ...redis]) relyingParty(party)
