"""What an agent checks and signs: docs/device-protocol.md, Signatures. Python 3.8 or newer, nothing else."""

import hashlib
import hmac

RESERVED = {
    "request_id", "correlation_id", "device_id", "action", "ts", "hmac", "hmac2", "expires_at", "attempt", "from",
    "message_type", "collapse_key",
}


def _sign(hmac_key, text):
    return hmac.new(hmac_key.encode(), text.encode(), hashlib.sha256).hexdigest()


def hmac_of(hmac_key, data):
    """Covers neither the params nor expires_at nor attempt: check hmac2."""
    return _sign(hmac_key, "|".join(data[name] for name in ("request_id", "device_id", "action", "ts")))


def hmac2_of(hmac_key, data):
    """Covers the whole message. KeyError where a field is missing."""
    params = {name: data[name] for name in data if name not in RESERVED and not name.startswith(("google", "gcm"))}
    parts = ["v2"] + [data[name] for name in ("request_id", "device_id", "action", "ts", "expires_at", "attempt")]
    for name in sorted(params, key=str.encode):
        parts += [name, params[name]]
    return _sign(hmac_key, "".join(f"{len(part.encode())}:{part}," for part in parts))


def is_ours(hmac_key, device_id, data):
    """Whether a message, by push or by mailbox, is for this phone and exactly as the service made it."""
    try:
        is_signed = hmac.compare_digest(hmac2_of(hmac_key, data).encode(), data["hmac2"].encode())
    except KeyError:
        return False
    return is_signed and data["device_id"] == device_id


def x_signature(hmac_key, unix_s, method, path, request_id, body):
    """Of a result. `path` is raw, with its query; `request_id` is the header X-Request-ID, or ""; `body` its bytes."""
    text = "\n".join([str(unix_s), method, path, request_id, hashlib.sha256(body).hexdigest()])
    return f"t={unix_s},v1={_sign(hmac_key, text)}"
