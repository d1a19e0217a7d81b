from test_trt_run import *
def test_show(compare, engines):
    run, lines = compare(engines / "trt-fp16.engine", "--runs", "3")
    print([ (r.id,r.status,r.reason) for r in run.rows], lines)
    assert 0
