"""Where settings come from, which one wins, and what is said about a wrong one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from tests.api.serving import PlayedEngine
from vlm_dlm.errors import BadInputError
from vlm_dlm.preflight import Checkpoint, open_checkpoint
from vlm_dlm.serving.process.engine import ProcessEngine
from vlm_dlm_app.main import build_services
from vlm_dlm_app.settings.launching import build_engine, launch_of
from vlm_dlm_app.settings.model import Settings
from vlm_dlm_app.settings.sources import load_settings


def test_flags_win_over_environment_over_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("port = 1\nmax_waiting = 2\nmax_images = 3\n", encoding="utf-8")
    environment = {"VLM_DLM_PORT": "4", "VLM_DLM_MAX_WAITING": "5"}
    settings = load_settings({"port": 6, "host": None}, file, environment)
    assert (settings.port, settings.max_waiting, settings.max_images) == (6, 5, 3)
    assert (settings.host, settings.max_n) == ("127.0.0.1", 4)


def test_a_plain_settings_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLM_DLM_PORT", "1")
    assert Settings().port == 8000
    assert load_settings().port == 1


def test_lists_are_written_with_commas_or_as_lists(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text('allowed_hosts = ["A.example", "b.example"]\n', encoding="utf-8")
    environment = {
        "VLM_DLM_API_KEYS": "one, two,",
        "VLM_DLM_ALLOW_ORIGINS": "https://Page.example",
    }
    settings = load_settings({}, file, environment)
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]
    assert settings.allow_origins == ("https://page.example",)
    assert settings.allowed_hosts == ("a.example", "b.example")


def test_a_vllm_elsewhere() -> None:
    environment = {"VLM_DLM_BACKEND": "vllm", "VLM_DLM_VLLM_URL": "http://a:1"}
    keyed = load_settings({}, None, {**environment, "VLM_DLM_VLLM_API_KEY": "very-secret"})
    assert keyed.vllm_url == "http://a:1"
    assert keyed.vllm_api_key is not None
    assert keyed.vllm_api_key.get_secret_value() == "very-secret"
    assert "very-secret" not in repr(keyed) + keyed.model_dump_json()
    assert load_settings({}, None, environment).vllm_api_key is None


def test_keys_are_never_shown() -> None:
    settings = Settings(api_keys=(SecretStr("very-secret"),))
    assert "very-secret" not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize("is_wanted", [True, False])
def test_a_spare_engine_is_kept_where_it_is_wanted(is_wanted: bool) -> None:
    own = build_engine(Settings(spare_engine=is_wanted), open_checkpoint())
    assert isinstance(own, ProcessEngine)
    assert own.has_spare is is_wanted
    scripted = build_engine(Settings(engine="scripted"), open_checkpoint())
    assert isinstance(scripted, ProcessEngine)
    assert not scripted.has_spare  # it starts at once


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"VLM_DLM_PROT": "1"}, r"setting prot \(from the environment\) is not known here"),
        ({"VLM_DLM_PORT": "x"}, r"setting port \(from the environment\) must be a whole number"),
        ({"VLM_DLM_PORT": "70000"}, r"port .* must be at most 65535"),
        ({"VLM_DLM_DEVICE": "tpu"}, r"device .* must be one of"),
        ({"VLM_DLM_DRAIN_S": "nan"}, r"drain_s .* must be"),
        ({"VLM_DLM_API_KEYS": "a b"}, r"api_keys .* holds a key that is empty or not plain"),
        ({"VLM_DLM_ALLOW_ORIGINS": "*"}, r"allow_origins .* every origin \(\*\) is not offered"),
        ({"VLM_DLM_ALLOW_HTTP_URLS": "true"}, r"allow_http_urls .* needs allow_image_urls"),
        ({"VLM_DLM_VLLM_URL": "http://a:1"}, r"vllm_url .* needs backend to be vllm"),
        ({"VLM_DLM_VLLM_ALONE": "1"}, r"vllm_alone .* needs backend to be vllm"),
        ({"VLM_DLM_BACKEND": "vllm", "VLM_DLM_VLLM_MODEL": "a"}, r"vllm_model .* needs vllm_url"),
        ({"VLM_DLM_BACKEND": "vllm", "VLM_DLM_VLLM_API_KEY": "a"}, r"api_key .* needs vllm_url"),
        (
            {"VLM_DLM_BACKEND": "vllm", "VLM_DLM_VLLM_URL": "http://a/v1"},
            r"vllm_url .* takes an address such as http://gpu-host:8000, without a path",
        ),
        (
            {
                "VLM_DLM_BACKEND": "vllm",
                "VLM_DLM_VLLM_URL": "http://a",
                "VLM_DLM_VLLM_ARGS": "--seed 1",
            },
            r"vllm_args .* is for a vLLM that is started here",
        ),
        (
            {"VLM_DLM_BACKEND": "vllm", "VLM_DLM_VLLM_ARGS": "--name 'a"},
            r"vllm_args .* has a quotation mark without its other half",
        ),
        ({"VLM_DLM_TRUSTED_PROXIES": "*"}, r"trusted_proxies .* everybody \(\*\) is not offered"),
        ({"VLM_DLM_TRUSTED_PROXIES": "10.0.0.1/8"}, r"trusted_proxies .* takes addresses"),
        ({"VLM_DLM_TRUSTED_PROXIES": "10.0.0.1,0.0.0.0/0"}, r"trusted_proxies .* believes everybo"),
        ({"VLM_DLM_TRUSTED_PROXIES": "::/0"}, r"trusted_proxies .* any client could then say that"),
        ({"VLM_DLM_TRUSTED_PROXIES": "0.0.0.0/1,128.0.0.0/1"}, r"trusted_proxies .* everybody"),
        ({"VLM_DLM_ROOT_PATH": "vlm"}, r"root_path .* takes a path such as /vlm"),
        ({"VLM_DLM_ROOT_PATH": "/v1"}, r"root_path .* address of the server itself"),
        ({"VLM_DLM_ALLOWED_HOSTS": "http://a"}, r"allowed_hosts .* takes host names"),
    ],
)
def test_wrong_settings_are_named_with_their_source(
    environment: dict[str, str], message: str
) -> None:
    with pytest.raises(BadInputError, match=message):
        load_settings({}, None, environment)


def test_unknown_keys_of_the_file_are_errors(tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text("[server]\nport = 1\n", encoding="utf-8")
    with pytest.raises(BadInputError, match=r"server \(from the settings file\) is not known"):
        load_settings({}, file, {})


@pytest.mark.parametrize("text", [None, "port = ", "\xff"])
def test_a_file_that_is_none(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "settings.toml"
    if text is not None:
        file.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInputError, match=r"cannot be read|is not valid TOML"):
        load_settings({}, file, {})


def test_the_debug_switch_is_no_setting() -> None:
    load_settings({}, None, {"VLM_DLM_DEBUG": "1"})


def test_settings_reach_the_engine() -> None:
    settings = Settings(
        model="m", device="cpu", dtype="float32", adapter="a", max_running=3, engine="scripted",
        script_words=("red", "box"), script_step_s=0.5, quantize="int8",
    )  # fmt: skip
    launch = launch_of(settings)
    assert (launch.model, launch.device, launch.dtype, launch.adapter) == (
        "m", "cpu", "float32", "a",
    )  # fmt: skip
    assert launch.quantize == "int8"
    assert launch.limits is not None
    assert (launch.limits.max_running, launch.script.max_running) == (3, 3)
    assert (launch.engine, launch.script.words, launch.script.step_s) == (
        "scripted", ("red ", "box "), 0.5,
    )  # fmt: skip
    assert launch_of(Settings()).limits is None


@pytest.mark.parametrize(
    ("fields", "schemes"),
    [
        ({}, None),
        ({"allow_image_urls": True}, ("https",)),
        ({"allow_image_urls": True, "allow_http_urls": True}, ("https", "http")),
    ],
)
def test_what_may_be_fetched(
    checkpoint: Checkpoint, fields: dict[str, bool], schemes: tuple[str, ...] | None
) -> None:
    services = build_services(Settings.model_validate(fields), PlayedEngine(), checkpoint)
    fetcher = services.fetcher
    assert (None if fetcher is None else fetcher.policy.schemes) == schemes
    services.preparer.close()


VLLM = {"backend": "vllm"}
AT = {"vllm_url": "http://a:1"}


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({**VLLM, "vllm_alone": True, "device": "cpu"}, "device .* for our own engine, and vllm_a"),
        ({**VLLM, "vllm_alone": True, "quantize": "int8"}, "quantize .* for our own engine"),
        ({**VLLM, "vllm_alone": True, "adapter": "a"}, "adapter .* for our own engine"),
        ({**VLLM, "vllm_alone": True, "single_process": True}, "single_process .* our own engine"),
        ({**VLLM, **AT, "vllm_python": "p"}, "vllm_python .* and vllm_url names another"),
        ({"vllm_python": "p"}, "vllm_python .from the flags. needs backend to be vllm"),
    ],
)
def test_a_flag_that_would_change_nothing(flags: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadInputError, match=sentence):
        load_settings(flags, None, {})
    environment = {f"VLM_DLM_{name.upper()}": str(value) for name, value in flags.items()}
    load_settings({}, None, environment)  # what stands there may be for another day


LISTS = sorted(
    name for name, field in Settings.model_fields.items() if "tuple" in str(field.annotation)
)


def test_all_lists_are_known() -> None:
    assert LISTS == [
        "allow_origins",
        "allowed_hosts",
        "api_keys",
        "script_words",
        "trusted_proxies",
    ]


@pytest.mark.parametrize("text", [",", ",,", " ", "\t", " , ", ", ,\n"])
@pytest.mark.parametrize("name", LISTS)
def test_a_list_that_is_set_holds_something(name: str, text: str, tmp_path: Path) -> None:
    """It would mean no keys, or any host: the opposite of what was meant."""
    with pytest.raises(
        BadInputError, match=rf"setting {name} \(from the environment\) is set, but"
    ):
        load_settings(environment={f"VLM_DLM_{name.upper()}": text})
    file = tmp_path / "settings.toml"
    for value in (json.dumps(text), json.dumps([""]) if name == "api_keys" else json.dumps("")):
        file.write_text(f"{name} = {value}", encoding="utf-8")
        with pytest.raises(BadInputError, match=f"setting {name}"):
            load_settings(file=file, environment={})


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_not_empty(name: str, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(f"{name} = []", encoding="utf-8")
    with pytest.raises(
        BadInputError, match=rf"setting {name} \(from the settings file\) is set, but holds nothing"
    ):
        load_settings(file=file, environment={})
    for empty in ((), []):
        with pytest.raises(BadInputError, match=rf"{name} \(from the flags\) is set, but holds"):
            load_settings({name: empty}, environment={})


NUMBERS = [
    name
    for name, field in Settings.model_fields.items()
    if isinstance(field.default, int | float) and not isinstance(field.default, bool)
] + ["max_running", "max_cache_tokens"]


@pytest.mark.parametrize("name", NUMBERS)
def test_true_is_no_number(name: str, tmp_path: Path) -> None:
    assert len(NUMBERS) > 30
    file = tmp_path / "settings.toml"
    for text in ("true", "false"):
        file.write_text(f"{name} = {text}", encoding="utf-8")
        with pytest.raises(BadInputError, match=f"setting {name} .* not true or false"):
            load_settings(file=file, environment={})
    file.write_text("page = false\nmodel = true", encoding="utf-8")
    with pytest.raises(BadInputError, match=r"setting model .* must be text"):
        load_settings(file=file, environment={})


@pytest.mark.parametrize("keys", [("",), (" ",), (",",), ("a,b",), ("a", "")])
def test_a_key_given_as_a_flag_is_one(keys: tuple[str, ...]) -> None:
    with pytest.raises(BadInputError, match=r"setting api_keys(\[.*\])? ?\(from the flags\)"):
        load_settings({"api_keys": keys}, environment={})


def test_one_key_of_several_may_be_missing() -> None:
    settings = load_settings(environment={"VLM_DLM_API_KEYS": ",one, ,two,"})
    assert [key.get_secret_value() for key in settings.api_keys] == ["one", "two"]


@pytest.mark.parametrize("name", ["model", "adapter", "vllm_api_key", "vllm_args", "host"])
def test_a_text_that_is_set_is_not_blank(name: str) -> None:
    with pytest.raises(BadInputError, match=f"setting {name} .* is set, but empty"):
        load_settings(environment={f"VLM_DLM_{name.upper()}": "  "})
    with pytest.raises(BadInputError, match=f"setting {name} .* is set, but empty"):
        load_settings({name: ""}, environment={})


@pytest.mark.parametrize("text", ["", " \n\n"])
def test_a_file_that_is_empty(tmp_path: Path, text: str) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(BadInputError, match="is empty"):
        load_settings(file=file, environment={})
    file.write_text("# nothing is changed here\n", encoding="utf-8")
    assert load_settings(file=file, environment={}) == Settings()


@pytest.mark.parametrize(("name", "most"), [("max_stop", 16), ("max_stop_chars", 256)])
def test_no_more_is_promised_than_the_engine_takes(name: str, most: int) -> None:
    assert getattr(Settings.model_validate({name: most}), name) == most
    with pytest.raises(ValidationError, match=f"less than or equal to {most}"):
        Settings.model_validate({name: most + 1})
