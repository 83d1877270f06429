// What the port files of this folder share: the one connection, the one writer, the journal and the dictionary.
import type { CommitWatch } from './commit-watch.ts'
import type { Connection } from './connection.ts'
import type { GroupCommit } from './group-commit.ts'
import type { Journal } from './journal.ts'
import type { KnownIntents } from './known-intents.ts'
import type { KnownTokens } from './known-tokens.ts'
import type { RegistrationMemory } from './registration-memory.ts'
import type { Scopes } from './scopes.ts'
import type { SignatureCount } from './signature-count.ts'
import type { TbsCodec } from './tbs-codec.ts'
import type { Words } from './words.ts'

export interface Parts {
  readonly db: Connection
  readonly commit: GroupCommit
  readonly journal: Journal
  readonly words: Words
  readonly intents: KnownIntents
  readonly tokens: KnownTokens
  readonly registered: RegistrationMemory
  readonly signed: SignatureCount
  readonly scopes: Scopes
  readonly tbs: TbsCodec
  /** Of what CRL and OCSP show. */
  readonly changes: CommitWatch
  /** Of the feed. */
  readonly appended: CommitWatch
  /** Of the audit log. */
  readonly logged: CommitWatch
}
