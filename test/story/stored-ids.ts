// Identifiers as the ledger's rows have them, for whoever reads its tables by plain SQL: those of 8 or 16 octets are kept as such.

/** @returns an SQL expression for the identifier as text */
export const idText = (column: string): string => `iif(typeof(${column}) = 'blob', lower(hex(${column})), ${column})`
