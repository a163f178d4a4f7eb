"""Many databases in one process: see `Tenants`.

`folder.py` sees what has changed, `record.py` is what is known of a closed one, `opened.py` an open one, `tenants.py`
decides. With a replica, `fleet.py` is all of them in the bucket and `holding.py` the place of one.
"""

from perdure.tenants.names import InvalidTenant
from perdure.tenants.opened import TenantBusy
from perdure.tenants.tenants import Tenants

__all__ = ["InvalidTenant", "TenantBusy", "Tenants"]
