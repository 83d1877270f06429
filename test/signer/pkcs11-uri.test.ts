import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { TokenError } from '../../src/signer/errors.ts'
import { encodePkcs11Uri, parsePkcs11Uri } from '../../src/signer/pkcs11-uri.ts'

const module = '?module-path=/usr/lib/softhsm/libsofthsm2.so'

describe('RFC 7512 URIs', () => {
  test('the form of the contract is read', () => {
    expect(parsePkcs11Uri(`pkcs11:token=agentca;object=issuing-1${module}&pin-source=file:/run/secrets/pin`)).toEqual({
      token: 'agentca',
      serial: undefined,
      object: 'issuing-1',
      id: undefined,
      modulePath: '/usr/lib/softhsm/libsofthsm2.so',
      pinFile: '/run/secrets/pin',
    })
  })

  test('values are percent-decoded (§2.3), ids to bytes', () => {
    const uri = parsePkcs11Uri(`pkcs11:token=My%20token%C3%A9;id=%00%ff%0A${module}&pin-source=file:///p%20q`)
    expect(uri.token).toBe('My tokené')
    expect([...uri.id!]).toEqual([0, 255, 10])
    expect(uri.pinFile).toBe('/p q')
  })

  test.each([
    ['pin-value in the query', `pkcs11:token=a${module}&pin-value=1234`, /pin-value is refused/],
    ['pin-value in the path', `pkcs11:token=a;pin-value=1234${module}`, /pin-value is refused/],
    ['no module path', 'pkcs11:token=a', /module-path is missing/],
    ['a relative module path', 'pkcs11:token=a?module-path=libsofthsm2.so', /must be absolute/],
    ['neither token nor serial', `pkcs11:object=a${module}`, /neither token nor serial/],
    ['a slot index', `pkcs11:token=a;slot-id=0${module}`, /slot-id is not known/],
    ['an attribute twice', `pkcs11:token=a;token=b${module}`, /appears twice/],
    ['another scheme', 'file:/x', /starts with "pkcs11:"/],
    ['a broken escape', `pkcs11:token=a%2${module}`, /percent-encoded/],
    ['a space', `pkcs11:token=a b${module}`, /percent-encoded/],
    ['a pin-source that is a command', `pkcs11:token=a${module}&pin-source=|cat`, /must not be a command/],
    ['a pin-source on another host', `pkcs11:token=a${module}&pin-source=file://host/p`, /absolute path/],
    ['a relative pin-source', `pkcs11:token=a${module}&pin-source=file:pin`, /absolute path/],
    ['bytes that are not UTF-8', `pkcs11:token=%ff${module}`, /not UTF-8/],
    ['a public key', `pkcs11:token=a;type=public${module}`, /type must be/],
  ])('%s is refused with its cure', (_, text, message) => {
    try {
      parsePkcs11Uri(text)
      expect.unreachable()
    } catch (error) {
      expect(error).toBeInstanceOf(TokenError)
      expect(error).toMatchObject({ code: 'pkcs11_uri_invalid' })
      expect((error as TokenError).message).toMatch(message)
      expect((error as TokenError).message).not.toContain('1234')
      expect((error as TokenError).hint).toBeTruthy()
    }
  })

  test('what is encoded is read back to the same value', () => {
    const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 }).filter(t => t.isWellFormed())
    const path = text.filter(t => !t.includes('\0') && !t.startsWith('/')).map(t => `/${t}`)
    fc.assert(
      fc.property(
        text,
        text,
        fc.uint8Array({ minLength: 1, maxLength: 16 }),
        path,
        path,
        (token, object, id, modulePath, pinFile) => {
          const uri = { token, serial: undefined, object, id, modulePath, pinFile }
          expect(parsePkcs11Uri(encodePkcs11Uri(uri))).toEqual(uri)
        },
      ),
    )
  })
})
