<resource schema="sdss" resdir="sdss">
  <meta name="title">Made-up SDSS-like table</meta>
  <meta name="creationDate">2026-11-22T00:00:00Z</meta>
  <meta name="description">Random rows under the column names of VizieR's V/154/sdss16, made for the
    tests of gaia_redshift. Nothing in here was measured.</meta>
  <meta name="subject">galaxies</meta>
  <meta name="creator">The gaia_redshift developers</meta>

  <table id="sdss16" onDisk="True" adql="True" mixin="//scs#q3cindex" primary="objid">
    <meta name="description">Spectroscopic redshifts</meta>
    <column name="objid" type="bigint" required="True" ucd="meta.id;meta.main"
      description="Object identifier"/>
    <column name="ra_icrs" type="double precision" unit="deg" ucd="pos.eq.ra;meta.main"
      description="Right ascension (ICRS)"/>
    <column name="de_icrs" type="double precision" unit="deg" ucd="pos.eq.dec;meta.main"
      description="Declination (ICRS)"/>
    <column name="mode" type="smallint" required="True" ucd="meta.code"
      description="1: the preferred one of several observations"/>
    <column name="class" type="smallint" required="True" ucd="src.class"
      description="Photometric class: 3 galaxy, 6 star"/>
    <column name="zsp" ucd="src.redshift" description="Spectroscopic redshift"/>
    <column name="e_zsp" ucd="stat.error;src.redshift" description="Error of zsp"/>
    <column name="f_zsp" type="integer" required="True" ucd="meta.code.qual"
      description="zWarning flags; 0 is clean"/>
    <column name="spcl" type="text" ucd="src.spType" description="Spectral class"/>
  </table>
  <data id="import">
    <sources>data/sdss16.csv</sources>
    <csvGrammar/>
    <make table="sdss16">
      <rowmaker idmaps="*"/>
    </make>
  </data>
</resource>
