"""Asks the KMS at argv[1] for every operation it has, as boto3 does it, signed; prints one JSON object of what happened to each.

Operations that the installed boto3 does not know yet are listed in "unknown".
"""
import base64
import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

config = Config(region_name="eu-west-1", retries={"max_attempts": 1})
kms = boto3.client("kms", endpoint_url=sys.argv[1], config=config)
known = {name for name in kms.meta.service_model.operation_names}
done, unknown = [], []


def call(name, **request):
    """The reply, or None where this boto3 has no such operation."""
    if name not in known:
        unknown.append(name)
        return None
    method = "".join("_" + c.lower() if c.isupper() else c for c in name).lstrip("_")
    reply = getattr(kms, method)(**request)
    done.append(name)
    return reply


def refused(code, name, **request):
    try:
        call(name, **request)
    except ClientError as error:
        assert error.response["Error"]["Code"] == code, (name, error)
        return
    raise AssertionError(f"{name} was not refused with {code}")


context = {"aws:ebs:id": "vol-1", "user": "ä ö"}
key = call("CreateKey", Description="from boto3", Tags=[{"TagKey": "a", "TagValue": "1"}])["KeyMetadata"]["KeyId"]
other = call("CreateKey")["KeyMetadata"]["Arn"]
assert call("DescribeKey", KeyId=key)["KeyMetadata"]["KeyState"] == "Enabled"
call("UpdateKeyDescription", KeyId=key, Description="changed")
assert len(call("ListKeys", Limit=1)["Keys"]) == 1
call("CreateAlias", AliasName="alias/one", TargetKeyId=key)
call("UpdateAlias", AliasName="alias/one", TargetKeyId=other)
assert [a["TargetKeyId"] for a in call("ListAliases")["Aliases"]] == [other.split("/")[1]]
call("DeleteAlias", AliasName="alias/one")

made = call("GenerateDataKey", KeyId=key, NumberOfBytes=64, EncryptionContext=context)
assert len(made["Plaintext"]) == 64
opened = call("Decrypt", CiphertextBlob=made["CiphertextBlob"], EncryptionContext=dict(reversed(context.items())))
assert opened["Plaintext"] == made["Plaintext"]
refused("InvalidCiphertextException", "Decrypt", CiphertextBlob=made["CiphertextBlob"], EncryptionContext={**context, "user": "x"})
blob = call("GenerateDataKeyWithoutPlaintext", KeyId=key, KeySpec="AES_256")["CiphertextBlob"]
assert len(call("GenerateRandom", NumberOfBytes=17)["Plaintext"]) == 17
sealed = call("Encrypt", KeyId=key, Plaintext=b"hello")["CiphertextBlob"]
moved = call("ReEncrypt", CiphertextBlob=sealed, DestinationKeyId=other, DestinationEncryptionContext=context)
assert call("Decrypt", CiphertextBlob=moved["CiphertextBlob"], EncryptionContext=context)["Plaintext"] == b"hello"

grant = call(
    "CreateGrant",
    KeyId=key,
    GranteePrincipal="arn:aws:iam::000000000000:user/anna",
    RetiringPrincipal="arn:aws:iam::000000000000:user/anna",
    Operations=["Decrypt", "RetireGrant"],
    Constraints={"EncryptionContextSubset": {"user": "x"}},
    Name="one",
)
assert call("ListGrants", KeyId=key)["Grants"][0]["GrantId"] == grant["GrantId"]
assert len(call("ListRetirableGrants", RetiringPrincipal="arn:aws:iam::000000000000:user/anna")["Grants"]) == 1
call("RetireGrant", GrantToken=grant["GrantToken"])
second = call("CreateGrant", KeyId=key, GranteePrincipal="ebs.amazonaws.com", Operations=["Decrypt"])
call("RevokeGrant", KeyId=key, GrantId=second["GrantId"])
assert call("ListGrants", KeyId=key)["Grants"] == []

policy = call("GetKeyPolicy", KeyId=key, PolicyName="default")["Policy"]
call("PutKeyPolicy", KeyId=key, PolicyName="default", Policy=policy)
assert call("ListKeyPolicies", KeyId=key)["PolicyNames"] == ["default"]
refused("MalformedPolicyDocumentException", "PutKeyPolicy", KeyId=key, PolicyName="default", Policy="{}")

call("TagResource", KeyId=key, Tags=[{"TagKey": "b", "TagValue": "2"}])
call("UntagResource", KeyId=key, TagKeys=["a"])
assert call("ListResourceTags", KeyId=key)["Tags"] == [{"TagKey": "b", "TagValue": "2"}]

call("EnableKeyRotation", KeyId=key)
assert call("GetKeyRotationStatus", KeyId=key)["KeyRotationEnabled"]
call("DisableKeyRotation", KeyId=key)
call("RotateKeyOnDemand", KeyId=key)
rotations = call("ListKeyRotations", KeyId=key)
assert rotations is None or len(rotations["Rotations"]) == 1
assert call("Decrypt", CiphertextBlob=blob)["KeyId"].endswith(key)

call("DisableKey", KeyId=key)
refused("DisabledException", "Encrypt", KeyId=key, Plaintext=b"x")
call("EnableKey", KeyId=key)
call("ScheduleKeyDeletion", KeyId=key, PendingWindowInDays=7)
refused("KMSInvalidStateException", "Encrypt", KeyId=key, Plaintext=b"x")
call("CancelKeyDeletion", KeyId=key)
for name, request in (
    ("Sign", {"KeyId": key, "Message": b"x", "SigningAlgorithm": "RSASSA_PSS_SHA_256"}),
    ("GenerateMac", {"KeyId": key, "Message": b"x", "MacAlgorithm": "HMAC_SHA_256"}),
):
    refused("UnsupportedOperationException", name, **request)

print(json.dumps({"done": sorted(set(done)), "unknown": sorted(set(unknown)), "blob": base64.b64encode(sealed).decode()}))
