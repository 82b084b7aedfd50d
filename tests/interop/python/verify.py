"""Verifies what a log gives out with code that is not ours.

verify.py merkle FOLDER PROOFS.json   pymerkle: roots and proofs over the entries of an exported folder
verify.py dsse ENVELOPES KEY          securesystemslib: DSSE envelopes, one a line, by an Ed25519 key in hexadecimal
verify.py vectors FOLDER              cryptography: keys and batches of the test vectors
"""

import base64
import hashlib
import json
import pathlib
import sys


def entries(folder):
    """The entries of all bundles, in order."""
    bundles = sorted((pathlib.Path(folder) / "tile" / "entries").rglob("*"))
    for path in [path for path in bundles if path.is_file()]:
        data = path.read_bytes()
        while data:
            end = 2 + int.from_bytes(data[:2], "big")
            assert end <= len(data), f"{path} is cut short"
            yield data[2:end]
            data = data[end:]


def merkle(folder, proofs):
    from pymerkle import InmemoryTree, verify_consistency, verify_inclusion

    tree = InmemoryTree(algorithm="sha256")
    leaves = [tree.get_leaf(tree.append_entry(entry)) for entry in entries(folder)]
    told = json.loads(pathlib.Path(proofs).read_text())
    assert len(leaves) == told["size"], f"{len(leaves)} entries"
    for size, root in told["roots"]:
        assert tree.get_root(size).hex() == root, f"root of {size}"
    for index, size, path in told["inclusion"]:
        # pymerkle counts from 1 and puts the leaf itself before the path.
        proof = tree.prove_inclusion(index + 1, size)
        proof.path = [leaves[index]] + [bytes.fromhex(digest) for digest in path]
        verify_inclusion(leaves[index], tree.get_root(size), proof, index=index + 1, size=size)
    for old, size, old_root, root in told["consistency"]:
        # pymerkle lays consistency paths out otherwise than RFC 6962 does, so it cannot read ours; it judges with its
        # own path whether our two roots are of one growing log. Go judges our paths.
        proof = tree.prove_consistency(old, size)
        roots = [bytes.fromhex(digest) for digest in (old_root, root)]
        verify_consistency(*roots, proof, prior_size=old, later_size=size)
    print("ok", len(told["roots"]), len(told["inclusion"]), len(told["consistency"]))


def dsse(envelopes, key):
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import SSlibKey

    count = 0
    for line in pathlib.Path(envelopes).read_text().splitlines():
        envelope = Envelope.from_dict(json.loads(line))
        (keyid,) = envelope.signatures
        public = SSlibKey(keyid, "ed25519", "ed25519", {"public": key})
        verified = envelope.verify([public], 1)
        assert list(verified) == [keyid]
        assert envelope.payload_type == "application/vnd.httt.batch.v1+protobuf"
        count += 1
    print("ok", count)


def verifier(algorithm, public):
    """What checks signatures by a key of the test vectors; raises unless they are good."""
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

    if algorithm == "ED25519":
        return ed25519.Ed25519PublicKey.from_public_bytes(public).verify
    if algorithm == "ECDSA_P256_SHA256":
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
        return lambda signature, data: key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    assert algorithm == "RSA_PKCS1_2048_8192_SHA256", algorithm
    # PKCS#1 DER, as PEM says it.
    body = base64.encodebytes(public).decode()
    pem = f"-----BEGIN RSA PUBLIC KEY-----\n{body}-----END RSA PUBLIC KEY-----\n"
    key = serialization.load_pem_public_key(pem.encode())
    return lambda signature, data: key.verify(signature, data, padding.PKCS1v15(), hashes.SHA256())


def vectors(folder):
    from cryptography.hazmat.primitives.asymmetric import ed25519

    def load(name):
        return json.loads((pathlib.Path(folder) / name).read_text())

    keys = {}
    for key in load("keys.json")["keys"]:
        public, message = bytes.fromhex(key["public"]), bytes.fromhex(key["message"])
        fingerprint = hashlib.sha256(bytes([key["algorithm"]["number"]]) + public).hexdigest()
        assert fingerprint == key["fingerprint"] and fingerprint[:16] == key["key_id"], key["name"]
        verify = keys[key["name"]] = verifier(key["algorithm"]["name"], public)
        verify(bytes.fromhex(key["signature"]), message)
        if key["seed"] is not None:
            private = ed25519.Ed25519PrivateKey.from_private_bytes(bytes.fromhex(key["seed"]))
            assert private.public_key().public_bytes_raw() == public, key["name"]
            assert private.sign(message).hex() == key["signature"], key["name"]
    told = load("batches.json")
    payload_type, heads = told["payload_type"].encode(), {}
    for batch in told["batches"]:
        body, pae, fields = bytes.fromhex(batch["body"]), bytes.fromhex(batch["pae"]), batch["fields"]
        assert pae == b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type, len(body), body), batch["name"]
        keys[batch["key"]](bytes.fromhex(batch["signature"]), pae)
        assert hashlib.sha256(body).hexdigest() == batch["digest"], batch["name"]
        assert batch["body"] in batch["sealed"] and batch["signature"] in batch["sealed"], batch["name"]
        feed = (fields["origin"], fields["audience"], fields["lane"]["number"])
        assert fields["previous"] == heads.get(feed, ""), batch["name"]
        heads[feed] = batch["digest"]
    print("ok", len(keys), len(told["batches"]))


if __name__ == "__main__":
    {"merkle": merkle, "dsse": dsse, "vectors": vectors}[sys.argv[1]](*sys.argv[2:])
