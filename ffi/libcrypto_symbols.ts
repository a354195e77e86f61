/** The functions of OpenSSL's libcrypto that sealing calls; the same in 1.1.1 and 3.x (openssl/evp.h, hmac.h). */

/** File names of the library, newest first. */
export const LIBCRYPTO_NAMES: Readonly<Partial<Record<typeof Deno.build.os, readonly string[]>>> = {
  linux: ["libcrypto.so.3", "libcrypto.so.1.1"],
  windows: ["libcrypto-3-x64.dll"],
};

export const EVP_CTRL_AEAD_SET_IVLEN = 0x9;
export const EVP_CTRL_AEAD_GET_TAG = 0x10;
export const EVP_CTRL_AEAD_SET_TAG = 0x11;

/** Nothing is taken down at the end of the process: other threads may still be in the library then. */
export const OPENSSL_INIT_NO_ATEXIT = 0x80000n;

export const LIBCRYPTO_SYMBOLS = {
  OPENSSL_init_crypto: {
    parameters: [
      "u64", // uint64_t opts
      "pointer", // const OPENSSL_INIT_SETTINGS *settings
    ],
    result: "i32",
  },
  // const EVP_CIPHER *EVP_aes_256_cbc(void);
  EVP_aes_256_cbc: { parameters: [], result: "pointer" },
  // const EVP_CIPHER *EVP_aes_256_gcm(void);
  EVP_aes_256_gcm: { parameters: [], result: "pointer" },
  // EVP_CIPHER_CTX *EVP_CIPHER_CTX_new(void);
  EVP_CIPHER_CTX_new: { parameters: [], result: "pointer" },
  // void EVP_CIPHER_CTX_free(EVP_CIPHER_CTX *c);
  EVP_CIPHER_CTX_free: { parameters: ["pointer"], result: "void" },
  // int EVP_CIPHER_CTX_set_padding(EVP_CIPHER_CTX *c, int pad);
  EVP_CIPHER_CTX_set_padding: { parameters: ["pointer", "i32"], result: "i32" },
  EVP_CIPHER_CTX_ctrl: {
    parameters: [
      "pointer", // EVP_CIPHER_CTX *ctx
      "i32", // int type
      "i32", // int arg
      "buffer", // void *ptr
    ],
    result: "i32",
  },
  EVP_EncryptInit_ex: {
    parameters: [
      "pointer", // EVP_CIPHER_CTX *ctx
      "pointer", // const EVP_CIPHER *cipher
      "pointer", // ENGINE *impl
      "buffer", // const unsigned char *key
      "buffer", // const unsigned char *iv
    ],
    result: "i32",
  },
  EVP_EncryptUpdate: {
    parameters: [
      "pointer", // EVP_CIPHER_CTX *ctx
      "buffer", // unsigned char *out
      "buffer", // int *outl
      "buffer", // const unsigned char *in
      "i32", // int inl
    ],
    result: "i32",
  },
  EVP_EncryptFinal_ex: {
    parameters: [
      "pointer", // EVP_CIPHER_CTX *ctx
      "buffer", // unsigned char *out
      "buffer", // int *outl
    ],
    result: "i32",
  },
  EVP_DecryptInit_ex: {
    parameters: [
      "pointer", // EVP_CIPHER_CTX *ctx
      "pointer", // const EVP_CIPHER *cipher
      "pointer", // ENGINE *impl
      "buffer", // const unsigned char *key
      "buffer", // const unsigned char *iv
    ],
    result: "i32",
  },
  EVP_DecryptUpdate: {
    parameters: [
      "pointer", // EVP_CIPHER_CTX *ctx
      "buffer", // unsigned char *out
      "buffer", // int *outl
      "buffer", // const unsigned char *in
      "i32", // int inl
    ],
    result: "i32",
  },
  EVP_DecryptFinal_ex: {
    parameters: [
      "pointer", // EVP_CIPHER_CTX *ctx
      "buffer", // unsigned char *out
      "buffer", // int *outl
    ],
    result: "i32",
  },
  // const EVP_MD *EVP_sha256(void);
  EVP_sha256: { parameters: [], result: "pointer" },
  // HMAC_CTX *HMAC_CTX_new(void);
  HMAC_CTX_new: { parameters: [], result: "pointer" },
  // void HMAC_CTX_free(HMAC_CTX *ctx);
  HMAC_CTX_free: { parameters: ["pointer"], result: "void" },
  HMAC_Init_ex: {
    parameters: [
      "pointer", // HMAC_CTX *ctx
      "buffer", // const void *key
      "i32", // int len
      "pointer", // const EVP_MD *md
      "pointer", // ENGINE *impl
    ],
    result: "i32",
  },
  HMAC_Update: {
    parameters: [
      "pointer", // HMAC_CTX *ctx
      "buffer", // const unsigned char *data
      "usize", // size_t len: a bigint, a Number would take the slow path
    ],
    result: "i32",
  },
  HMAC_Final: {
    parameters: [
      "pointer", // HMAC_CTX *ctx
      "buffer", // unsigned char *md
      "buffer", // unsigned int *len
    ],
    result: "i32",
  },
} as const satisfies Deno.ForeignLibraryInterface;

export type Libcrypto = Deno.DynamicLibrary<typeof LIBCRYPTO_SYMBOLS>;
