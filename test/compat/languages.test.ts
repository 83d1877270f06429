// The TLS of languages as a relying party, by the programs of their pages.
import { afterAll } from 'vitest'
import { languages } from './parties/languages.ts'
import { relyingParty } from './relying-party.ts'
import { endWorld } from './world.ts'

afterAll(endWorld)
for (const party of languages) relyingParty(party)
