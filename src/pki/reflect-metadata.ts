// What @peculiar/x509 needs before it loads: its container (tsyringe) refuses to start without the Reflect metadata functions. These
// three are all it calls; a polyfill of the whole proposal would add a dependency for them. Import this file before the library.

interface ReflectMetadata {
  getMetadata?(key: unknown, target: object): unknown
  getOwnMetadata?(key: unknown, target: object): unknown
  defineMetadata?(key: unknown, value: unknown, target: object): void
}

const reflect = Reflect as ReflectMetadata

// Owned by this module; entries die with the class they describe.
const metadata = new WeakMap<object, Map<unknown, unknown>>()

const own = (key: unknown, target: object): unknown => metadata.get(target)?.get(key)

const inherited = (key: unknown, target: object): unknown => {
  for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at)) {
    const value = own(key, at)
    if (value !== undefined) return value
  }
  return undefined
}

// A real polyfill that is there already (an application's own) is left in place.
if (reflect.getMetadata === undefined) {
  reflect.getMetadata = inherited
  reflect.getOwnMetadata = own
  reflect.defineMetadata = (key, value, target) => {
    const entries = metadata.get(target) ?? new Map<unknown, unknown>()
    metadata.set(target, entries.set(key, value))
  }
}
