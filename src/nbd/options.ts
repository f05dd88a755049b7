/** What a caller says about an NBD server: where it listens, who may come in, and how. */

/** Who may come in across a network: clients that know a certificate's authority, or a shared key (PSK). */
export type NbdTls = NbdTlsCertificate | NbdTlsPsk;

/** TLS with X.509 certificates. Each member but `allowedNames` is the path of a PEM file. */
export interface NbdTlsCertificate {
  /** The server's certificate, and the chain up to its authority. */
  readonly certificate: string;
  /** The private key of `certificate`; a file that only its owner may read. */
  readonly key: string;
  /**
   * Authorities of clients: a client must show a certificate that one of them signed. Left out: any client may come in.
   */
  readonly clientCa?: string | undefined;
  /**
   * Names of which a client's certificate must have one, as a DNS name of its subjectAltName, or as its common name
   * where it has no subjectAltName. Needs `clientCa`. Left out: any certificate of `clientCa` will do.
   */
  readonly allowedNames?: readonly string[] | undefined;
}

/** TLS with keys that both sides know. */
export interface NbdTlsPsk {
  /** Path of a file with lines `identity:key in hexadecimal`, as psktool writes; only its owner may read it. */
  readonly psk: string;
}

/** Where a server listens: exactly one of these. */
export interface NbdEndpoint {
  /**
   * Path of a new unix socket, which only the owner may use (0600). A socket on which nobody listens any more is
   * replaced; anything else with this name is not touched.
   */
  readonly socket?: string | undefined;
  /** A TCP port; 0 takes a free one. The default host is 127.0.0.1. Other than loopback needs `tls`. */
  readonly listen?: { readonly host?: string | undefined; readonly port: number } | undefined;
  /** A socket that listens already (systemd's LISTEN_FDS); the server's from now on, and closed by it. */
  readonly fd?: number | undefined;
  /** A connected socket: its client is the only one, and the server ends with it. The server's from now on. */
  readonly stdio?: number | undefined;
}

/** Options of `Volume.serve` and `serveVolumes`. */
export interface NbdServeOptions extends NbdEndpoint {
  /** Clients may read only, whatever the volume allows. */
  readonly readOnly?: boolean | undefined;
  /** Clients must use TLS, on whatever endpoint. */
  readonly tls?: NbdTls | undefined;
  /**
   * Beyond loopback without TLS: everybody who reaches the port reads and writes the volume's plaintext, and the
   * network sees it.
   */
  readonly allowPlaintextBeyondLoopback?: boolean | undefined;
  /** Clients at once, 1 to 64 (the default); more are turned away. */
  readonly connectionsMax?: number | undefined;
}
