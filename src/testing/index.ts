// `agentca/testing`: what users' own tests import. A real CA in memory, never a mock of one, and never for anything but tests.

export { TestingError, type TestingErrorCode } from './guard.ts'
export {
  type Applied,
  type RegistrationOptions,
  type RevocationTarget,
  type RevokeOptions,
  type ServiceOptions,
  type TestAuthority,
  type TestAuthorityOptions,
  testAuthority,
} from './test-authority.ts'
