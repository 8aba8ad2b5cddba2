/** What an agent checks and signs: docs/device-protocol.md, Signatures. Android or any JVM, nothing else. */
import java.security.MessageDigest
import javax.crypto.Mac
import javax.crypto.spec.SecretKeySpec

/** `hmacKey` as registration gave it, not decoded. */
class Signatures(private val hmacKey: String) {
    /** Covers neither the params nor expires_at nor attempt: check hmac2. */
    fun hmacOf(data: Map<String, String>): String =
        sign(listOf("request_id", "device_id", "action", "ts").joinToString("|") { data[it].orEmpty() })

    /** Covers the whole message. */
    fun hmac2Of(data: Map<String, String>): String {
        val fields = listOf("request_id", "device_id", "action", "ts", "expires_at", "attempt")
        val params = data.keys.filter { it !in RESERVED && !it.startsWith("google") && !it.startsWith("gcm") }
        // Names of params are ASCII: Kotlin's order is the byte order.
        val parts = listOf("v2") + fields.map { data[it].orEmpty() } +
            params.sorted().flatMap { listOf(it, data.getValue(it)) }
        return sign(parts.joinToString("") { "${it.toByteArray().size}:$it," })
    }

    /** Whether a message, by push or by mailbox, is for this phone and exactly as the service made it. */
    fun isOurs(deviceId: String, data: Map<String, String>): Boolean =
        data["device_id"] == deviceId &&
            MessageDigest.isEqual(hmac2Of(data).toByteArray(), data["hmac2"].orEmpty().toByteArray())

    /** X-Signature of a result. `path` is raw, with its query; `requestId` is the header X-Request-ID, or "". */
    fun xSignature(unixS: Long, method: String, path: String, requestId: String, body: ByteArray): String {
        val bodySha256 = MessageDigest.getInstance("SHA-256").digest(body).toHex()
        return "t=$unixS,v1=" + sign(listOf("$unixS", method, path, requestId, bodySha256).joinToString("\n"))
    }

    private fun sign(text: String): String {
        val mac = Mac.getInstance("HmacSHA256")
        mac.init(SecretKeySpec(hmacKey.toByteArray(), "HmacSHA256"))
        return mac.doFinal(text.toByteArray()).toHex()
    }

    private fun ByteArray.toHex(): String = joinToString("") { "%02x".format(it) }

    private companion object {
        val RESERVED = setOf(
            "request_id", "correlation_id", "device_id", "action", "ts", "hmac", "hmac2", "expires_at", "attempt", "from",
            "message_type", "collapse_key"
        )
    }
}
