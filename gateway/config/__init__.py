"""What is configured: settings, clients, models, and how files are read, watched and replaced."""

from gateway.config import private
from gateway.config.clients import NAME, Client, Clients, hash_key, new_key, read_toml, today_utc, well_formed
from gateway.config.models import Catalogue, Model
from gateway.config.settings import PREFIX, Settings, SettingsError, load, watched_clients, watched_key
from gateway.config.store_url import CLUSTER, TLS, UNIX, StoreUrl, member
from gateway.config.watched_file import BOM, Fixed, Watched, decoded, replace

__all__ = [
    "BOM",
    "CLUSTER",
    "NAME",
    "PREFIX",
    "TLS",
    "UNIX",
    "Catalogue",
    "Client",
    "Clients",
    "Fixed",
    "Model",
    "Settings",
    "SettingsError",
    "StoreUrl",
    "Watched",
    "decoded",
    "hash_key",
    "load",
    "member",
    "new_key",
    "private",
    "read_toml",
    "replace",
    "today_utc",
    "watched_clients",
    "watched_key",
    "well_formed",
]
