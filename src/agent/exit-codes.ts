// The exit code of whatever the agent side can fail with by itself (interfaces.md, Commands), for each program that uses it.
import type { AgentErrorCode } from './errors.ts'

export const agentExitCodes: Readonly<Record<AgentErrorCode, number>> = {
  option_missing: 2,
  option_invalid: 2,
  file_unreadable: 2,
  directory_unwritable: 2,
  directory_malformed: 6,
  directory_in_use: 6,
  ca_unreachable: 7,
  ca_not_verified: 9,
  ca_fingerprint_not_found: 9,
  answer_malformed: 1,
  answer_not_verified: 9,
  identity_unexpected: 9,
  identity_expired: 4,
  identity_closed: 1,
  revoked: 4,
  peer_not_verified: 9,
}
