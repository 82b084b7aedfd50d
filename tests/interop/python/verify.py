"""Verifies what a log gives out with code that is not ours.

verify.py merkle FOLDER PROOFS.json   pymerkle: roots and proofs over the entries of an exported folder
verify.py dsse ENVELOPES KEY          securesystemslib: DSSE envelopes, one a line, by an Ed25519 key in hexadecimal
"""

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


if __name__ == "__main__":
    {"merkle": merkle, "dsse": dsse}[sys.argv[1]](*sys.argv[2:])
