// Name constraints along a path (RFC 5280 §4.2.1.10, §6.1.3 (b) and (c)). The constraints of several CAs all hold: that is the
// intersection of what is permitted and the union of what is excluded, without computing either.
import type { Certificate } from '../pki/certificate.ts'
import type { NameConstraints } from '../pki/extensions.ts'
import type { GeneralName } from '../pki/general-names.ts'
import { oidOf } from '../pki/oid.ts'
import type { Work } from './budget.ts'
import { fitOf, formOf } from './name-forms.ts'

/**
 * The first name of the certificate that breaks a constraint, as a phrase; null when all hold.
 * @throws VerifyError budget_exceeded; PkiError when a name cannot be read
 */
export const nameViolation = (
  certificate: Certificate,
  constraints: readonly NameConstraints[],
  work: Work,
): string | null => {
  if (constraints.length === 0) return null
  for (const name of constrainedNames(certificate))
    for (const each of constraints) {
      const violation = violationOf(name, each, work)
      if (violation !== null) return violation
    }
  return null
}

const violationOf = (name: GeneralName, { permitted, excluded }: NameConstraints, work: Work): string | null => {
  const form = formOf(name)
  for (const base of excluded)
    if (formOf(base) === form) {
      work.spend('nameComparisons')
      // Unreadable is as good as excluded.
      if (fitOf(name, base, 'excluded') !== 'outside') return `${described(name)} is excluded`
    }
  let constrained = false
  for (const base of permitted)
    if (formOf(base) === form) {
      constrained = true
      work.spend('nameComparisons')
      if (fitOf(name, base, 'permitted') === 'within') return null
    }
  return constrained ? `${described(name)} is not permitted` : null
}

const described = (name: GeneralName): string =>
  name.kind === 'dns' || name.kind === 'uri' || name.kind === 'email'
    ? `${name.kind} ${name.value}`
    : `a ${name.kind} name`

/**
 * Subject, alternative names, and addresses inside the subject. §4.2.1.10 asks for the last only where there are no alternative names;
 * relying parties exist that read them anyway, so they are constrained anyway.
 */
function* constrainedNames(certificate: Certificate): Generator<GeneralName> {
  const { rdns } = certificate.subject
  if (rdns.length > 0) yield { kind: 'directory', nameDer: certificate.subjectDer }
  for (const rdn of rdns)
    for (const { type, value } of rdn) if (type === oidOf.emailAddress) yield { kind: 'email', value }
  yield* certificate.subjectAltName ?? []
}
