// What a lint is: one rule of a standard, over a to-be-signed certificate that was parsed once for all of them.
import type { TbsCertificate } from '../../pki/certificate.ts'
import type { Principal } from '../../pki/spiffe.ts'

export interface Lint {
  readonly name: string
  /** Where the rule stands. */
  readonly citation: string
  /**
   * What is wrong; null: nothing. A PkiError of a value that does not parse counts as wrong.
   * @param principal whom the SPIFFE ID names; null where it names nobody, which is for `spiffe-id` to say
   */
  readonly check: (tbs: TbsCertificate, principal: Principal | null) => string | null
}
