"""Objects sealed for one reader: X25519, HKDF-SHA256, AES-256-GCM in chunks of 1 MiB.

    FLSEAL1\\n | ephemeral public key (32) | chunk | chunk …        chunk = ciphertext | tag (16)

The key follows the authenticated mode of HPKE (RFC 9180, 4.1): it is derived from the
ephemeral key and the sender's own key, each with the receiver's, so that only the receiver can
read and only that sender can have written. Chunks follow the STREAM construction (Hoang,
Reyhanitabar, Rogaway & Vizár 2015): the nonce counts them and marks the last, so that none can be
changed, moved, repeated or cut off.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from federated_analytics.flame.chunks import CHUNK, DamagedObject, exactly
from federated_analytics.flame.errors import FlameError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"FLSEAL1\n"
KEY_BYTES = 32
TAG_BYTES = 16


class NotForThisNode(FlameError):
    """Sealed bytes that this node's key does not open."""

    code = "cannot_decrypt"
    default_remedy = (
        "Give sender_node_id of the node that saved the data, and read it on a node that the "
        "sender named in remote_node_ids, in the same analysis."
    )


@dataclass(frozen=True, repr=False)
class NodeKey:
    """A node's X25519 key pair.

    Fields:
        secret: 32 bytes that never leave the node
    """

    secret: bytes

    @classmethod
    def new(cls) -> NodeKey:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return cls(X25519PrivateKey.generate().private_bytes_raw())

    @property
    def public(self) -> bytes:
        """32 bytes that every node may know."""
        return self._private().public_key().public_bytes_raw()

    def shared_with(self, public: bytes) -> bytes:
        """The 32 bytes that this key and another's public part have in common (RFC 7748).

        Raises:
            NotForThisNode: the other is no public key.
        """
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

        try:
            return self._private().exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:
            raise NotForThisNode("The other node's public key is not one.") from None

    def _private(self) -> X25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

        return X25519PrivateKey.from_private_bytes(self.secret)


def binding(analysis: str, sender: str, receiver: str, id: str) -> bytes:
    """What a sealed object is bound to; unambiguous whatever the names hold."""
    fields = [part.encode() for part in (analysis, sender, receiver, id)]
    return b"".join(struct.pack(">I", len(field)) + field for field in fields)


def seal(plain: BinaryIO, out: BinaryIO, receiver: bytes, sender: NodeKey, binding: bytes) -> None:
    """Encrypt a stream for one reader.

    Args:
        receiver: the reader's public key.
        binding: what the bytes belong to (`binding`); `unseal` needs the same.
    """
    ephemeral = NodeKey.new()
    shared = ephemeral.shared_with(receiver) + sender.shared_with(receiver)
    cipher = _cipher(shared, ephemeral.public + receiver + sender.public, binding)
    out.write(MAGIC + ephemeral.public)
    piece, number = _full(plain), 0
    while True:
        following = _full(plain) if len(piece) == CHUNK else b""
        out.write(cipher.encrypt(_nonce(number, last=not following), piece, None))
        if not following:
            return
        piece, number = following, number + 1


def unseal(sealed: BinaryIO, out: BinaryIO, own: NodeKey, sender: bytes, binding: bytes) -> None:
    """Decrypt what `seal` wrote; drop what `out` holds when this raises.

    Args:
        sender: the public key of the node that sealed it.

    Raises:
        NotForThisNode: another reader, sender or binding, or a changed, moved or missing byte.
        DamagedObject: the bytes are no sealed object.
    """
    if exactly(sealed, len(MAGIC)) != MAGIC:
        raise DamagedObject(
            "The bytes are not an encrypted object.",
            remedy="Leave out sender_node_id for data that was saved without remote_node_ids.",
        )
    ephemeral = exactly(sealed, KEY_BYTES)
    shared = own.shared_with(ephemeral) + own.shared_with(sender)
    cipher = _cipher(shared, ephemeral + own.public + sender, binding)
    piece, number = _full(sealed, CHUNK + TAG_BYTES), 0
    while True:
        whole = len(piece) == CHUNK + TAG_BYTES
        following = _full(sealed, CHUNK + TAG_BYTES) if whole else b""
        out.write(_opened(cipher, _nonce(number, last=not following), piece))
        if not following:
            return
        piece, number = following, number + 1


def _opened(cipher: AESGCM, nonce: bytes, piece: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return cipher.decrypt(nonce, piece, None)
    except (InvalidTag, ValueError):
        raise NotForThisNode(
            "The object is encrypted for another node, comes from another sender, or was changed."
        ) from None


def _cipher(shared: bytes, keys: bytes, binding: bytes) -> AESGCM:
    """One key for each object, as the ephemeral key is new for each."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    info = MAGIC + keys + binding
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=info).derive(shared))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def _full(source: BinaryIO, length: int = CHUNK) -> bytes:
    """As many bytes as asked for, fewer only at the end of the stream."""
    piece = source.read(length)
    if len(piece) in (0, length):
        return piece
    pieces = [piece]
    missing = length - len(piece)
    while missing and (piece := source.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    return b"".join(pieces)
