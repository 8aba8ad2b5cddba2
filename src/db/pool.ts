/** placeholder: types first */
/** One statement. `name` makes it a prepared statement (unless DATABASE_PREPARED=false) and labels its errors. */
export interface Query {
  readonly name: string
  readonly text: string
  readonly values?: readonly unknown[]
}

export interface Result<Row> {
  readonly rows: readonly Row[]
  readonly rowCount: number
}

export interface Queryable {
  query<Row extends object>(query: Query): Promise<Result<Row>>
}

export interface Database extends Queryable {
  /** Runs `work` in one transaction; rolls back when it throws; resolves only after a real COMMIT. */
  transaction<T>(work: (tx: Queryable) => Promise<T>): Promise<T>
}
